import { portOverride, portVariable } from "#infra/local/config.ts";
import settings from "#infra/local/ports.json" with { type: "json" };
import { Problem } from "#infra/local/problem.ts";

/** A stack is one set of all parts with its own ports and data; several may run beside each other. */
export type StackName = keyof typeof settings.offsets;
export type PortName = keyof typeof settings.ports;
export type Ports = Readonly<Record<PortName, number>>;

const PORT_MAX = 65_535;
export const stackNames = Object.keys(settings.offsets) as StackName[];
export const portNames = Object.keys(settings.ports) as PortName[];

export function isStackName(text: string): text is StackName {
  return text in settings.offsets;
}

/**
 * The ports of a stack: the default plus the stack's offset, or what the environment says, which gets no offset.
 * Throws a Problem for a variable that holds no port, and for a port that two parts would share.
 */
export function portsOf(stack: StackName, override: (port: string) => string | undefined = portOverride): Ports {
  const ports = Object.fromEntries(
    portNames.map((name) => [name, parsePort(name, override(name)) ?? settings.ports[name] + settings.offsets[stack]]),
  ) as Record<PortName, number>;
  for (const [index, name] of portNames.entries()) {
    const other = portNames.slice(0, index).find((earlier) => ports[earlier] === ports[name]);
    if (other !== undefined)
      throw new Problem(
        `Port ${ports[name]} is given to both ${other} and ${name}. Mend it: change ${portVariable(other)} or ${portVariable(name)}.`,
      );
  }
  return ports;
}

function parsePort(name: PortName, text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= PORT_MAX) return port;
  throw new Problem(
    `${portVariable(name)} is "${text}", which is no port. Mend it: give a number from 1 to ${PORT_MAX}.`,
  );
}
