import assert from "node:assert/strict";
import { test } from "node:test";
import { nameOfPeer, peerUri } from "#lib/peer-name.ts";

test("a name comes from the one URI of our own domain, and from nothing else", () => {
  const cases: [alternativeNames: string | undefined, name: string | undefined][] = [
    [`${"URI:"}${peerUri("ledger")}, IP Address:127.0.0.1, DNS:localhost`, "ledger"],
    ["IP Address:127.0.0.1, URI:spiffe://ledgermesh/gateway", "gateway"],
    [undefined, undefined],
    ["", undefined],
    ["DNS:ledger", undefined],
    ["DNS:spiffe://ledgermesh/ledger", undefined],
    ["URI:spiffe://ledgermesh/", undefined],
    ["URI:spiffe://ledgermesh/ledger/x", undefined],
    ["URI:spiffe://ledgermesh/Ledger", undefined],
    ["URI:spiffe://elsewhere/ledger", undefined],
    ["URI:https://ledgermesh/ledger", undefined],
    ["URI:spiffe://ledgermesh/ledger, URI:spiffe://ledgermesh/gateway", undefined],
    ["URI:https://example.com, URI:spiffe://ledgermesh/ledger", undefined],
    // As Node writes a name that holds a comma.
    ['DNS:"x, URI:spiffe://ledgermesh/gateway, y"', undefined],
  ];
  for (const [alternativeNames, name] of cases) assert.equal(nameOfPeer(alternativeNames), name, alternativeNames);
});
