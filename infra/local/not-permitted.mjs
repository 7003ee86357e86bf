import { root } from "#infra/local/paths.mjs";

/**
 * The sentence for an error about a file that this user may not touch; undefined for any other error.
 * The usual reason: the checkout was used by root before.
 * @param {Error} error
 */
export function notPermitted(error) {
  const { code, path } = /** @type {NodeJS.ErrnoException} */ (error);
  if (code !== "EACCES" && code !== "EPERM") return undefined;
  return `${path ?? "A file"} belongs to another user. Mend it: run as that user, or give it to this one: sudo chown -R "$(id -u)" "${root}"`;
}
