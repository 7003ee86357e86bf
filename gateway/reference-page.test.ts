import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { referenceScript } from "#infra/local/paths.mjs";
import { type GatewayProcess, startGateway } from "#tests/gateway-process.ts";
import { errorOf, rest } from "#tests/rest.ts";

let gateway: GatewayProcess;

before(async () => {
  gateway = await startGateway();
});

after(() => gateway.stop());

const get = (path: string) => rest(gateway.url + path);

test("the document is served as it is committed", async () => {
  const { status, headers, text } = await get("/openapi.json");
  assert.deepEqual([status, headers.get("content-type")], [200, "application/json"]);
  assert.ok(text === readFileSync(new URL("openapi.json", import.meta.url), "utf8"));
});

test("the page and its scripts come from the gateway, each as what it is", async () => {
  const page = await get("/docs");
  assert.deepEqual([page.status, page.headers.get("content-type")], [200, "text/html; charset=utf-8"]);
  const sources = [...page.text.matchAll(/\b(?:src|href)="([^"]+)"/g)].map(([, url]) => url ?? "");
  assert.deepEqual(sources, ["data:,", "/openapi.json", "/docs/reference.js", "/docs/start.js"]);
  for (const path of ["/docs/reference.js", "/docs/start.js"]) {
    const script = await get(path);
    assert.deepEqual([script.status, script.headers.get("content-type")], [200, "text/javascript; charset=utf-8"]);
    assert.equal(script.headers.get("x-content-type-options"), "nosniff");
  }
  assert.ok((await get("/docs/reference.js")).text === readFileSync(referenceScript, "utf8"));
});

test("the browser may ask nobody but the gateway, and runs no script of the page itself", async () => {
  const policy = (await get("/docs?anything")).headers.get("content-security-policy") ?? "";
  const directives = new Map(policy.split("; ").map((directive) => directive.split(/ (.*)/s) as [string, string]));
  assert.equal(directives.get("default-src"), "'none'");
  assert.equal(directives.get("script-src"), "'self'");
  assert.equal(directives.get("connect-src"), "'self'");
  assert.equal(directives.get("frame-ancestors"), "'none'");
  assert.doesNotMatch(policy, /https?:|\*|unsafe-eval/);
});

test("what is beside it is not there, and it is only read", async () => {
  for (const path of ["/docs/", "/docs/reference.js.map", "/docs/../openapi.yaml", "/openapi.json/"]) {
    assert.equal(errorOf(await get(path)).reason, "ROUTE_NOT_FOUND", path);
  }
  const answer = await rest(`${gateway.url}/openapi.json`, { body: "{}" });
  assert.equal(errorOf(answer).reason, "METHOD_NOT_ALLOWED");
  assert.equal(answer.headers.get("allow"), "GET");
});
