import { randomInt } from "node:crypto";
import { parseArgs } from "node:util";
import { Problem } from "#infra/local/problem.ts";

export const HELP = `Usage: make torture [MINUTES=5] [SEED=1], or node tests/torture/main.ts [options]

Real processes under load, with faults: kill -9, SIGSTOP, crashes of Postgres, outages, at every step of the protocols.
At the end every invariant must hold, and what clients were told must be what is there. See docs/torture.md.

  --minutes M   how long the faults go on (default 5; a part of a minute, such as 0.5, will do)
  --faults N    fail when there were fewer (default 12 a minute)
  --seed N      what load and which faults: a whole number (default: a new one, printed)
  --only A,B    only faults whose name begins with one of these, however many
  --first       end with the first thing that does not hold
  --without elasticsearch   neither Elasticsearch nor the projector
  --json        one line of JSON on standard output, the report; everything else on standard error
  --help        this text

Exit status: 0 all held, 1 something did not. The stack is \`torture\`, wiped at the start; its data stay until the next
run, beside what the clients saw: .local/torture-run.
`;

const DEFAULT_MINUTES = 5;
const MAX_MINUTES = 24 * 60;
const DEFAULT_FAULTS_PER_MINUTE = 12;
const MAX_SEED = 2 ** 32 - 1;

export interface Options {
  readonly seed: number;
  readonly minutes: number;
  /** Fewer are a failure. */
  readonly minFaults: number;
  /** Beginnings of names; none: all faults. */
  readonly only: readonly string[];
  readonly first: boolean;
  readonly withElasticsearch: boolean;
  readonly json: boolean;
  readonly help: boolean;
}

/** Throws a Problem that says what is wrong. */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seed: { type: "string" },
      minutes: { type: "string" },
      faults: { type: "string" },
      only: { type: "string", default: "" },
      first: { type: "boolean", default: false },
      without: { type: "string", default: "" },
      json: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.without !== "" && values.without !== "elasticsearch") {
    throw new Problem(`--without ${values.without}: only elasticsearch can be left out. Mend it: see --help.`);
  }
  const minutes = number("--minutes", values.minutes, DEFAULT_MINUTES, MAX_MINUTES);
  const seed = number("--seed", values.seed, randomInt(MAX_SEED), MAX_SEED);
  if (!Number.isInteger(seed)) throw new Problem(`--seed ${seed} is no whole number. Mend it: see --help.`);
  const only = values.only.split(",").filter((name) => name !== "");
  const usualFaults = only.length > 0 ? 0 : Math.floor(DEFAULT_FAULTS_PER_MINUTE * minutes);
  return {
    seed,
    minutes,
    minFaults: number("--faults", values.faults, usualFaults, Number.MAX_VALUE),
    only,
    first: values.first,
    withElasticsearch: values.without === "",
    json: values.json,
    help: values.help,
  };
}

function number(option: string, text: string | undefined, absent: number, most: number): number {
  if (text === undefined || text === "") return absent;
  const value = Number(text);
  if (text.trim() !== "" && value >= 0 && value <= most) return value;
  throw new Problem(`${option} "${text}" is no number from 0 to ${most}. Mend it: see --help.`);
}

/** The options as arguments again. */
export function toArguments({ seed, minutes, minFaults, only, first, withElasticsearch, json }: Options): string[] {
  return [
    ...(first ? ["--first"] : []),
    ...["--seed", String(seed), "--minutes", String(minutes), "--faults", String(minFaults), "--only", only.join(",")],
    ...(withElasticsearch ? [] : ["--without", "elasticsearch"]),
    ...(json ? ["--json"] : []),
  ];
}
