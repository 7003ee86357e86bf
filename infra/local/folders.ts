import { join } from "node:path";
import { localFolder } from "#infra/local/paths.mjs";
import type { StackName } from "#infra/local/ports.ts";

/** Everything of one stack lies below `.local/<stack>`. */
export const stackFolder = (stack: StackName) => join(localFolder, stack);
export const logFolder = (stack: StackName) => join(stackFolder(stack), "logs");
export const secretsFolder = (stack: StackName) => join(stackFolder(stack), "secrets");
export const runFolder = (stack: StackName) => join(stackFolder(stack), "run");
export const dataFolder = (stack: StackName, part: string) => join(stackFolder(stack), part);

export const logFile = (stack: StackName, part: string) => join(logFolder(stack), `${part}.log`);
export const stateFile = (stack: StackName) => join(runFolder(stack), "state.json");
/** Held by the supervisor while the stack runs. */
export const lockFile = (stack: StackName) => join(runFolder(stack), "supervisor.lock");
