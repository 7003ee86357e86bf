import assert from "node:assert/strict";
import { test } from "node:test";
import { startProgress, waitingWords } from "#cli/progress.ts";

function screen(isTTY: boolean) {
  const written: string[] = [];
  return { written, isTTY, write: (text: string | Uint8Array) => written.push(String(text)) > 0 };
}

test("what is no terminal gets a few plain lines", () => {
  const file = screen(false);
  const progress = startProgress(file, "Rows", 1_000);
  for (let count = 0; count < 1_000; count += 1) progress.advance();
  progress.done();
  waitingWords(file)("the shard is away");
  // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there
  assert.doesNotMatch(file.written.join(""), /[\u0000-\u0009\u000b-\u001f]/);
  assert.equal(file.written.length, 5);
  assert.equal(file.written[0], "Rows: 250 of 1,000 (25 %)\n");
  assert.match(file.written[3] ?? "", /^Rows: 1,000 of 1,000 \(100 %\) in \d/);
  assert.equal(file.written[4], "Trying again: the shard is away\n");
});

test("a terminal gets a bar that is drawn now and then", () => {
  const terminal = screen(true);
  const progress = startProgress(terminal, "Rows", 100_000);
  for (let count = 0; count < 100_000; count += 1) progress.advance();
  progress.done();
  assert.ok(terminal.written.length < 50);
  assert.match(terminal.written.at(-2) ?? "", /^\r\S*Rows +█{30} 100,000 of 100,000 \(100 %\)/);
  assert.equal(terminal.written.at(-1), "\n");
});

test("why nothing moves is said once in a while, not for each call", () => {
  const file = screen(false);
  const say = waitingWords(file);
  for (let time = 0; time < 100; time += 1) say("away");
  assert.deepEqual(file.written, ["Trying again: away\n"]);
});
