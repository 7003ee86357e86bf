/** Data as a Lua expression. Throws for what has no form in Lua, such as null: a Lua table cannot hold it. */
export function toLua(data: unknown): string {
  if (typeof data === "string") return luaString(data);
  if (typeof data === "number" || typeof data === "boolean") return String(data);
  if (Array.isArray(data)) return `{${data.map(toLua).join(", ")}}`;
  if (typeof data !== "object" || data === null) throw new Error(`${String(data)} has no form in Lua`);
  const pairs = Object.entries(data).map(([key, value]) => `[${luaString(key)}] = ${toLua(value)}`);
  return `{${pairs.join(", ")}}`;
}

/** Everything but printable ASCII, and quote and backslash, as the decimal escapes of its bytes. */
function luaString(text: string): string {
  const escaped = text.replace(/[^ !#-[\]-~]/gu, (character) =>
    [...Buffer.from(character)].map((byte) => `\\${String(byte).padStart(3, "0")}`).join(""),
  );
  return `"${escaped}"`;
}
