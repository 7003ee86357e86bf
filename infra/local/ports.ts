import { PORT_VARIABLE_PREFIX, portOverride, portVariable, portVariables } from "#infra/local/config.ts";
import settings from "#infra/local/ports.json" with { type: "json" };
import { Problem } from "#infra/local/problem.ts";

/** A stack is one set of all parts with its own ports and data; several may run beside each other. */
export type StackName = keyof typeof settings.stacks;
export type PortName = keyof typeof settings.ports;
export type Ports = Readonly<Record<PortName, number>>;

const PORT_MAX = 65_535;
export const stackNames = Object.keys(settings.stacks) as StackName[];
export const portNames = Object.keys(settings.ports) as PortName[];

/** A shard is one Postgres cluster. These are all that a stack can have, in shard order. */
const shardPorts = ["postgres_1", "postgres_2", "postgres_3", "postgres_4"] as const satisfies readonly PortName[];
export type ShardPort = (typeof shardPorts)[number];
export const SHARDS_MAX = shardPorts.length;

export function isStackName(text: string): text is StackName {
  return Object.hasOwn(settings.stacks, text);
}

/** The number of shards of a stack. */
export function shardCountOf(stack: StackName): number {
  return settings.stacks[stack].shards;
}

/** The ports of the shards that a stack has, in shard order. */
export function shardPortsOf(stack: StackName): readonly ShardPort[] {
  return shardPorts.slice(0, shardCountOf(stack));
}

/** The ports that a stack uses: all but those of shards that it does not have. */
export function portNamesOf(stack: StackName): readonly PortName[] {
  const absent: readonly string[] = shardPorts.slice(shardCountOf(stack));
  return portNames.filter((name) => !absent.includes(name));
}

/**
 * The ports of a stack: the default plus the stack's offset, or what the environment says, which gets no offset.
 * Throws a Problem for a variable of a port that does not exist or that holds none, and for a port that two parts of the
 * stack would share.
 * @param override what the environment says about a port
 * @param variables the variables about ports that are set
 */
export function portsOf(
  stack: StackName,
  override: (port: string) => string | undefined = portOverride,
  variables: readonly string[] = portVariables(),
): Ports {
  refuseUnknown(variables);
  const offset = settings.stacks[stack].offset;
  const ports = Object.fromEntries(
    portNames.map((name) => [name, parsePort(name, override(name)) ?? settings.ports[name] + offset]),
  ) as Record<PortName, number>;
  const used = portNamesOf(stack);
  for (const [index, name] of used.entries()) {
    const other = used.slice(0, index).find((earlier) => ports[earlier] === ports[name]);
    if (other !== undefined)
      throw new Problem(
        `Port ${ports[name]} is given to both ${other} and ${name}. Mend it: change ${portVariable(other)} or ${portVariable(name)}.`,
      );
  }
  return ports;
}

/** A mis-spelt variable would change nothing, and nobody would notice. */
function refuseUnknown(variables: readonly string[]): void {
  const known = portNames.map(portVariable);
  const unknown = variables.find((variable) => !known.includes(variable));
  if (unknown === undefined) return;
  const names = known.map((variable) => variable.slice(PORT_VARIABLE_PREFIX.length)).join(", ");
  throw new Problem(
    `${unknown} is set, and there is no such port. Mend it: unset it, or write after ${PORT_VARIABLE_PREFIX} one of ${names}.`,
  );
}

function parsePort(name: PortName, text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  const port = Number(text);
  if (/^\d+$/.test(text) && port >= 1 && port <= PORT_MAX) return port;
  throw new Problem(
    `${portVariable(name)} is "${text}", which is no port. Mend it: give a number from 1 to ${PORT_MAX}.`,
  );
}
