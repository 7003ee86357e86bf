import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { postgresBinFolder } from "#infra/local/paths.mjs";

/**
 * As whom Postgres runs. It refuses to run as root; so root starts it in a user namespace, where it seems to be an ordinary
 * user and its files still belong to root. Where namespaces are refused (many containers), it runs as `nobody`.
 * @typedef {"self" | "namespace" | "nobody" | "impossible"} PostgresUser
 */

const NAMESPACE_COMMAND = ["unshare", "--user", "--map-user=1000", "--map-group=1000", "--"];
export const NOBODY_ID = 65534;

/** @returns {PostgresUser} */
export function choosePostgresUser() {
  if (process.getuid?.() !== 0) return "self";
  const [command = "", ...args] = NAMESPACE_COMMAND;
  if (spawnSync(command, [...args, "true"]).status === 0) return "namespace";
  const asNobody = spawnSync(join(postgresBinFolder, "postgres"), ["--version"], { uid: NOBODY_ID, gid: NOBODY_ID });
  return asNobody.status === 0 ? "nobody" : "impossible";
}

export const POSTGRES_USER_REMEDY =
  "Postgres cannot run as root, this machine refuses user namespaces, and the user nobody cannot read this folder. Mend it: run make as an ordinary user, or allow namespaces: sysctl -w user.max_user_namespaces=10000";

/**
 * The command line of a Postgres program. unshare replaces itself by the program: its pid is the program's.
 * @param {PostgresUser} user
 * @param {string} program
 * @param {string[]} args
 * @returns {string[]}
 */
export function postgresCommand(user, program, args) {
  const command = [join(postgresBinFolder, program), ...args];
  return user === "namespace" ? [...NAMESPACE_COMMAND, ...command] : command;
}
