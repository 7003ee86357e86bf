import { type Ports, portsOf, type StackName } from "#infra/local/ports.ts";
import { isAlive } from "#infra/local/processes.mjs";
import { readState } from "#infra/local/state.ts";

/**
 * The ports of a stack as it runs, whatever the environment of this process says: who started it with other ports need not
 * repeat them for `make status` or `make demo`. For a stack that does not run: those it would get.
 */
export function stackPorts(stack: StackName): Ports {
  const state = readState(stack);
  const running = state !== undefined && isAlive(state.supervisor) ? state.parts.map((part) => part.ports) : [];
  return Object.assign({ ...portsOf(stack) }, ...running);
}
