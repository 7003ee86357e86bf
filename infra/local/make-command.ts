import type { StackName } from "#infra/local/ports.ts";

/** What a person types for this stack. */
export function makeCommand(target: string, stack: StackName): string {
  return stack === "dev" ? `make ${target}` : `make ${target} STACK=${stack}`;
}
