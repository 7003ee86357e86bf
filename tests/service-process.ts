import { type ChildProcess, spawn } from "node:child_process";
import { type ServiceName, stackEnvironment } from "#infra/local/endpoints.ts";
import { freePort } from "#infra/local/free-port.ts";
import { eventually, stackName } from "#tests/stack.ts";

/** Starts a further process of a service beside the stack's own; resolves when it is ready. It ends with the test. */
export async function startService(name: ServiceName): Promise<ChildProcess> {
  const healthPort = await freePort();
  const environment = { ...stackEnvironment(stackName, name), LEDGERMESH_HEALTH_PORT: String(healthPort) };
  const child = spawn(process.execPath, [`services/${name}/main.ts`], { env: environment, stdio: "ignore" });
  process.once("exit", () => child.kill("SIGKILL"));
  await eventually(async () => {
    if (child.exitCode !== null) throw new Error(`the further ${name} ended with ${child.exitCode}`);
    return (await fetch(`http://127.0.0.1:${healthPort}/healthz`)).ok;
  }, `the further ${name} is ready`);
  return child;
}

/** The value of a metric of a process, summed over its labels; undefined when it is not there. */
export async function readMetric(baseUrl: string, name: string): Promise<number | undefined> {
  const lines = (await (await fetch(`${baseUrl}/metrics`)).text()).split("\n");
  const values = lines.filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
  if (values.length === 0) return undefined;
  return values.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" ") + 1)), 0);
}
