import type { WriteStream } from "node:tty";

/** Shows how far a long work is: a bar on a terminal, now and then a plain line elsewhere. */
export interface Progress {
  advance(): void;
  /** Ends the bar. */
  done(): void;
}

/** Where commands write for people; a file or a pipe has no `isTTY`. */
export type Screen = Pick<WriteStream, "write"> & { readonly isTTY?: boolean; readonly columns?: number };

const BAR_CHARACTERS = 30;
const REDRAW_MS = 100;
const LINES_PER_WORK = 4;
const CLEAR_LINE = "\r\u001b[K";

export function startProgress(screen: Screen, label: string, total: number): Progress {
  const started = performance.now();
  let count = 0;
  let drawn = Number.NEGATIVE_INFINITY;
  let lines = 0;

  const figures = () => {
    const percent = total === 0 ? 100 : Math.floor((100 * count) / total);
    return `${formatCount(count)} of ${formatCount(total)} (${percent} %)`;
  };
  const speed = () => {
    const seconds = (performance.now() - started) / 1_000;
    return `${seconds.toFixed(1)} s, ${formatCount(Math.round(count / Math.max(seconds, 0.001)))}/s`;
  };
  function draw(now: number): void {
    drawn = now;
    const filled = total === 0 ? BAR_CHARACTERS : Math.floor((BAR_CHARACTERS * count) / total);
    const bar = "█".repeat(filled) + "░".repeat(BAR_CHARACTERS - filled);
    screen.write(`${CLEAR_LINE}${label.padEnd(10)} ${bar} ${figures()}  ${speed()}`);
  }

  return {
    advance() {
      count += 1;
      if (screen.isTTY === true) {
        const now = performance.now();
        if (now - drawn >= REDRAW_MS) draw(now);
      } else if (count < total && count * LINES_PER_WORK >= (lines + 1) * total) {
        lines += 1;
        screen.write(`${label}: ${figures()}\n`);
      }
    },
    done() {
      if (screen.isTTY === true) {
        draw(performance.now());
        screen.write("\n");
      } else screen.write(`${label}: ${figures()} in ${speed()}\n`);
    },
  };
}

/** 28205 is `28,205`. */
export function formatCount(count: number): string {
  return count.toLocaleString("en-US");
}

const WORD_EVERY_MS = 10_000;

/** Says why nothing moves, now and then. */
export function waitingWords(screen: Screen): (reason: string) => void {
  let said = Number.NEGATIVE_INFINITY;
  return (reason) => {
    const now = performance.now();
    if (now - said < WORD_EVERY_MS) return;
    said = now;
    screen.write(`${screen.isTTY === true ? CLEAR_LINE : ""}Trying again: ${reason}\n`);
  };
}
