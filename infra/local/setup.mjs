// The entry has no static imports and old syntax only, so that a Node that is too old gets a sentence, not a stack trace.
const NODE_MAJOR_MIN = 20;

if (Number(process.versions.node.split(".")[0]) < NODE_MAJOR_MIN) {
  console.error(
    `Node ${NODE_MAJOR_MIN} or newer is missing (found ${process.versions.node}). Mend it with: https://nodejs.org/en/download, or on Debian: sudo apt-get install nodejs npm`,
  );
  process.exitCode = 1;
} else {
  void import("./setup-run.mjs").then((setup) => setup.main(process.argv.slice(2)));
}
