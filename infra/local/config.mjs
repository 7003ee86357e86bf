import { env } from "node:process";

/** The environment of the set-up: what the machine's own tools (npm, pip, Maven) get. */
export const environment = env;
