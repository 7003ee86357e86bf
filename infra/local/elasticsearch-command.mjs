import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";

/**
 * What Java is given to start Elasticsearch, in its home folder as the working folder.
 *
 * Its quick start: the set-up lets it start once and keeps what the JVM learned (classes already linked, which methods
 * are hot). A start then takes a third of the processor time. Without the file, or with one of another Java, the JVM
 * starts in the ordinary way.
 */
const QUICK_START_FILE = "start.aot";
const HEAP = ["-Xms256m", "-Xmx512m"];

/** @param {string} home */
export const quickStartFile = (home) => join(home, QUICK_START_FILE);

/** The same jars in the same order at every start: the quick start is valid for exactly these. @param {string} home */
function classPath(home) {
  // Relative: colons separate the entries, and the path of the checkout may hold one.
  const jars = readdirSync(join(home, "lib")).sort();
  return ["launcher.jar", ...jars.map((name) => join("lib", name))].join(":");
}

const OPTIONS = [
  ...HEAP,
  // One small heap on few cores: the serial collector needs the least memory and no threads of its own.
  "-XX:+UseSerialGC",
  // The optimising compiler took a third of Elasticsearch's processor time in its first minutes, which on two cores is
  // missing elsewhere: docs/decisions/0008-quick-compiler-for-elasticsearch.md.
  "-XX:TieredStopAtLevel=1",
  "-XX:+ExitOnOutOfMemoryError",
  // Nothing is written outside the checkout, also no statistics below /tmp.
  "-XX:-UsePerfData",
  "--enable-native-access=ALL-UNNAMED",
  // Netty's use of it is known and would fill the log with warnings.
  "--sun-misc-unsafe-memory-access=allow",
];

/**
 * @param {string} home
 * @param {string} data a folder that exists
 * @param {number} httpPort
 * @param {number} transportPort
 */
export function elasticsearchArguments(home, data, httpPort, transportPort) {
  const quickStart = existsSync(quickStartFile(home)) ? [`-XX:AOTCache=${QUICK_START_FILE}`, "-Xlog:aot*=error"] : [];
  const main = ["ElasticsearchLauncher", home, data, String(httpPort), String(transportPort)];
  return [...OPTIONS, `-Djava.io.tmpdir=${data}`, ...quickStart, "-classpath", classPath(home), ...main];
}

/**
 * The same for the run from which the JVM learns: it ends by itself as soon as the node has started.
 * @param {string} home
 * @param {string} data a folder that exists
 * @param {string} file what it learned, relative to home
 */
export function elasticsearchTrainingArguments(home, data, file) {
  const anyPort = "0";
  const main = ["ElasticsearchLauncher", home, data, anyPort, anyPort, "end-when-started"];
  return [...OPTIONS, `-Djava.io.tmpdir=${data}`, `-XX:AOTCacheOutput=${file}`, "-classpath", classPath(home), ...main];
}
