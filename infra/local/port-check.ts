import { createServer } from "node:net";
import { portVariable } from "#infra/local/config.ts";
import { HOST } from "#infra/local/endpoints.ts";
import type { Part } from "#infra/local/parts.ts";
import type { Ports } from "#infra/local/ports.ts";

/** One line for each port of these parts that another program has, or that this user may not take. */
export async function takenPorts(parts: readonly Pick<Part, "name" | "ports">[], ports: Ports): Promise<string[]> {
  const looks = parts.flatMap((part) =>
    part.ports.map(async (name) => {
      const reason = await reasonNotFree(ports[name]);
      return reason === undefined
        ? []
        : [`Port ${ports[name]} of ${part.name} ${reason}. Mend it: set ${portVariable(name)} to a free port.`];
    }),
  );
  return (await Promise.all(looks)).flat();
}

function reasonNotFree(port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code === "EADDRINUSE" ? "is taken by another program" : `cannot be used (${error.code})`),
    );
    server.listen(port, HOST, () => server.close(() => resolve(undefined)));
  });
}
