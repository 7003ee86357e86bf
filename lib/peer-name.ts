/**
 * Who a certificate stands for: the one URI among its alternative names, `spiffe://ledgermesh/NAME`. Its other names say where
 * a process is met, which proves nothing.
 */
const TRUST_DOMAIN = "spiffe://ledgermesh/";
const NAME_PATTERN = /^[a-z][a-z0-9-]{0,62}$/;
const URI = "URI:";

/** The URI of a process. */
export function peerUri(name: string): string {
  return `${TRUST_DOMAIN}${name}`;
}

/**
 * The name in a verified certificate's alternative names, as Node writes them (`URI:…, IP Address:…, DNS:…`); undefined when
 * there is none, or not exactly one URI.
 */
export function nameOfPeer(alternativeNames: string | undefined): string | undefined {
  // Node quotes a name that holds what could be taken for another name; none of ours does.
  if (alternativeNames === undefined || alternativeNames.includes('"')) return undefined;
  const uris = alternativeNames.split(", ").filter((name) => name.startsWith(URI));
  const [uri = ""] = uris;
  if (uris.length !== 1 || !uri.startsWith(URI + TRUST_DOMAIN)) return undefined;
  const name = uri.slice(URI.length + TRUST_DOMAIN.length);
  return NAME_PATTERN.test(name) ? name : undefined;
}
