import { getOption } from "@bufbuild/protobuf";
import { contract } from "#lib/contract.ts";
import type { Principal } from "#lib/principal.ts";
import { CallerRole, type CallerRule, type PeerRule } from "#proto/ledgermesh/options/v1/callers.ts";

/** What the contract says about who may call an RPC (proto/ledgermesh/options/v1/callers.proto), for the server to look up. */

export interface MethodRule {
  /** `CreateTransfer` */
  readonly name: string;
  /** Processes that may call it. */
  readonly peers: ReadonlySet<string>;
  readonly roles: ReadonlySet<Principal["role"]>;
  /** A field of the request, `self`, or empty. */
  readonly ownerField: string;
  /** The same as the decoded request has it. */
  readonly ownerProperty: string;
  readonly internal: boolean;
  readonly secondFactor: boolean;
  readonly beforeSecondFactor: boolean;
}

const ROLES: Readonly<Record<number, Principal["role"]>> = {
  [CallerRole.USER]: "USER",
  [CallerRole.MERCHANT]: "MERCHANT",
  [CallerRole.OPERATOR]: "OPERATOR",
  [CallerRole.SERVICE]: "SERVICE",
  [CallerRole.ANONYMOUS]: "ANONYMOUS",
};

/** The rule of an RPC by its path (`/ledgermesh.ledger.v1.LedgerService/CreateTransfer`). Throws when the contract has none. */
export function callerRule(path: string): MethodRule {
  rules ??= readRules();
  const rule = rules.get(path);
  if (rule === undefined) throw new Error(`the contract has no caller rule for ${path}`);
  return rule;
}

/** Read once: the contract of a running process does not change. */
let rules: ReadonlyMap<string, MethodRule> | undefined;

function readRules(): ReadonlyMap<string, MethodRule> {
  const registry = contract();
  const callers = registry.getExtension("ledgermesh.options.v1.callers");
  const peers = registry.getExtension("ledgermesh.options.v1.peers");
  if (callers === undefined || peers === undefined) throw new Error("the contract has no options for callers");
  const rules = new Map<string, MethodRule>();
  for (const service of [...registry.files].flatMap((file) => file.services)) {
    const { names } = getOption(service, peers) as PeerRule;
    for (const method of service.methods) {
      const rule = getOption(method, callers) as CallerRule;
      rules.set(`/${service.typeName}/${method.name}`, {
        name: method.name,
        peers: new Set(names),
        roles: new Set(rule.roles.map((role) => ROLES[role]).filter((role) => role !== undefined)),
        ownerField: rule.ownerField,
        ownerProperty: method.input.fields.find(({ name }) => name === rule.ownerField)?.localName ?? "",
        internal: rule.internal,
        secondFactor: rule.secondFactor,
        beforeSecondFactor: rule.beforeSecondFactor,
      });
    }
  }
  return rules;
}
