/**
 * What the set-up prints: a line for each finished step, and below them, on a terminal, one line that is drawn again and
 * again with a bar of the bytes that arrived on the disk. Without a terminal there are only plain lines.
 */
const REDRAW_MS = 500;
const BAR_WIDTH = 24;
const MB = 1_000_000;
const CLEAR_LINE = "\r\x1b[K";

/**
 * @typedef {{ readonly name: string, readonly expectedBytes: number, readonly arrivedBytes: () => number }} Fetch
 * @param {NodeJS.WriteStream} out
 */
export function createProgress(out) {
  /** @type {Map<string, { fetch: Fetch, bytes: number, done: boolean }>} */
  const fetches = new Map();
  const live = out.isTTY === true;
  let drawn = false;

  function draw() {
    const all = [...fetches.values()];
    const running = all.filter((entry) => !entry.done);
    if (running.length === 0) return;
    for (const entry of running) {
      // What is on the disk can shrink (temporary files), a bar should not.
      entry.bytes = Math.min(entry.fetch.expectedBytes, Math.max(entry.bytes, entry.fetch.arrivedBytes()));
    }
    const expected = all.reduce((sum, { fetch }) => sum + fetch.expectedBytes, 0);
    const arrived = all.reduce((sum, { bytes }) => sum + bytes, 0);
    const bar = "#".repeat(Math.floor((arrived / expected) * BAR_WIDTH)).padEnd(BAR_WIDTH, "-");
    const names = running.map(({ fetch }) => fetch.name).join(", ");
    const line = `  [${bar}] ${Math.floor(arrived / MB)} of about ${Math.floor(expected / MB)} MB: ${names}`;
    out.write(`${CLEAR_LINE}${line.slice(0, (out.columns || 80) - 1)}`);
    drawn = true;
  }
  const timer = live ? setInterval(draw, REDRAW_MS) : undefined;

  return {
    /** @param {string} line */
    say(line) {
      out.write(`${drawn ? CLEAR_LINE : ""}${line}\n`);
      drawn = false;
    },
    /** @param {Fetch} fetch */
    begin(fetch) {
      fetches.set(fetch.name, { fetch, bytes: 0, done: false });
    },
    /** @param {string} name */
    end(name) {
      const entry = fetches.get(name);
      if (entry !== undefined) Object.assign(entry, { bytes: entry.fetch.expectedBytes, done: true });
    },
    close() {
      clearInterval(timer);
      if (drawn) out.write(CLEAR_LINE);
      drawn = false;
    },
  };
}
