import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { getOption } from "@bufbuild/protobuf";
import { ensureCertificates } from "#infra/local/certificates.ts";
import { processNames } from "#infra/local/tls-files.ts";
import { contract } from "#lib/contract.ts";
import type { PeerRule } from "#proto/ledgermesh/options/v1/callers.ts";
import { makeCertificates } from "#tests/certificates.ts";

const DAY_MS = 86_400_000;
const read = (file: string) => new X509Certificate(readFileSync(file));
const contents = (folder: string) =>
  Object.fromEntries(readdirSync(folder).map((name) => [name, readFileSync(join(folder, name), "utf8")]));

test("each process has a certificate of the stack's CA, in its name, for this machine, for both directions", async () => {
  const { folder, files } = await makeCertificates();
  const ca = read(join(folder, "ca.crt"));
  assert.ok(ca.ca);
  assert.ok(ca.verify(ca.publicKey));
  assert.equal(ca.keyUsage, undefined);
  for (const name of processNames) {
    const certificate = read(files(name).certificateFile);
    assert.ok(certificate.checkIssued(ca) && certificate.verify(ca.publicKey), name);
    assert.equal(certificate.ca, false);
    assert.equal(certificate.subjectAltName, `URI:spiffe://ledgermesh/${name}, IP Address:127.0.0.1, DNS:localhost`);
    assert.deepEqual(certificate.keyUsage, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    assert.deepEqual(certificate.publicKey.asymmetricKeyDetails, { namedCurve: "prime256v1" });
    const days = (certificate.validToDate.getTime() - Date.now()) / DAY_MS;
    assert.ok(days > 89 && days <= 90, `${name} is good for ${days} days`);
    assert.ok(certificate.validFromDate.getTime() < Date.now());
  }
  const serials = [ca, ...processNames.map((name) => read(files(name).certificateFile))].map(
    ({ serialNumber }) => serialNumber,
  );
  assert.equal(new Set(serials).size, processNames.length + 1);
});

test("every service, and every process that the contract names as a peer, is in the list of those that get one", () => {
  const peers = contract().getExtension("ledgermesh.options.v1.peers");
  assert.ok(peers);
  const services = [...contract().files].flatMap((file) => file.services);
  const named = services.flatMap((service) => (getOption(service, peers) as PeerRule).names);
  assert.ok(named.length > 0);
  const list: readonly string[] = processNames;
  for (const name of [...named, ...readdirSync("services")])
    assert.ok(list.includes(name), `${name} gets no certificate`);
});

test("nobody else may read them", async () => {
  const { folder } = await makeCertificates();
  assert.equal(statSync(folder).mode & 0o777, 0o700);
  const files = readdirSync(folder);
  assert.equal(files.length, 2 * (processNames.length + 1));
  for (const file of files) assert.equal(statSync(join(folder, file)).mode & 0o777, 0o600, file);
});

test("a start changes nothing while there is time, and renews what has less than 30 days left, by the same CA", async () => {
  const { folder } = await makeCertificates();
  const made = contents(folder);
  await ensureCertificates(folder, Date.now() + 59 * DAY_MS);
  assert.deepEqual(contents(folder), made);

  await ensureCertificates(folder, Date.now() + 61 * DAY_MS);
  const renewed = contents(folder);
  for (const [file, text] of Object.entries(made)) {
    assert.equal(renewed[file] === text, file.startsWith("ca."), file);
  }
});

test("a CA that would end before its certificates is made anew, with all of them", async () => {
  const { folder } = await makeCertificates();
  const made = contents(folder);
  await ensureCertificates(folder, Date.now() + (3_650 - 89) * DAY_MS);
  const renewed = contents(folder);
  for (const [file, text] of Object.entries(made)) assert.notEqual(renewed[file], text, file);
});

test("what a start that was cut off left behind is mended by the next, and nothing else", async () => {
  const { folder } = await makeCertificates();
  const other = await makeCertificates();
  const made = contents(folder);
  rmSync(join(folder, "ledger.crt"));
  writeFileSync(join(folder, "gateway.key"), readFileSync(join(folder, "console.key")));
  writeFileSync(join(folder, "relay.crt"), "no certificate");
  for (const end of ["crt", "key"]) {
    writeFileSync(join(folder, `reporting.${end}`), readFileSync(join(other.folder, `reporting.${end}`)));
    writeFileSync(join(folder, `projector.${end}`), readFileSync(join(folder, `identity.${end}`)));
  }
  await ensureCertificates(folder);
  const mended = contents(folder);
  const changed = Object.keys(made).filter((file) => mended[file] !== made[file]);
  const expected = ["ledger", "gateway", "relay", "reporting", "projector"].flatMap((name) => [
    `${name}.crt`,
    `${name}.key`,
  ]);
  assert.deepEqual(new Set(changed), new Set(expected));
  const ca = read(join(folder, "ca.crt"));
  for (const name of ["ledger", "gateway", "relay", "reporting", "projector"]) {
    const certificate = read(join(folder, `${name}.crt`));
    assert.ok(certificate.verify(ca.publicKey), name);
    assert.match(certificate.subjectAltName ?? "", new RegExp(`^URI:spiffe://ledgermesh/${name}, `));
  }
});
