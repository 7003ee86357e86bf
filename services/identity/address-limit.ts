import { isIPv6 } from "node:net";

/**
 * Token buckets, one per client address, in this process: an address has `burst` attempts at once, and `perSecond` more each
 * second. The addresses of one IPv6 customer (/64) are one. At most `MAX_ADDRESSES` are known; the one that was quiet for the
 * longest is forgotten for a new one.
 */
export interface AddressLimit {
  /** Takes one attempt. Answers 0, or in how many ms the next one is possible: then none was taken. */
  take(address: string): number;
}

const MAX_ADDRESSES = 100_000;

export function addressLimit(
  { burst, perSecond }: { readonly burst: number; readonly perSecond: number },
  nowMs: () => number,
): AddressLimit {
  // In the order of their last attempt.
  const buckets = new Map<string, { tokens: number; atMs: number }>();
  return {
    take(address) {
      const key = isIPv6(address) ? networkOf(address) : address;
      const atMs = nowMs();
      const before = buckets.get(key) ?? { tokens: burst, atMs };
      const tokens = Math.min(burst, before.tokens + (Math.max(0, atMs - before.atMs) / 1000) * perSecond);
      const taken = tokens >= 1;
      buckets.delete(key);
      if (buckets.size >= MAX_ADDRESSES) buckets.delete(buckets.keys().next().value as string);
      buckets.set(key, { tokens: taken ? tokens - 1 : tokens, atMs });
      return taken ? 0 : Math.ceil(((1 - tokens) / perSecond) * 1000);
    },
  };
}

/** The first 64 bits; an IPv4 address inside of IPv6 is itself. */
function networkOf(address: string): string {
  const hostname = new URL(`http://[${address.replace(/%.*$/, "")}]`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]{1,4}):([0-9a-f]{1,4})$/.exec(hostname);
  if (mapped !== null) {
    const [high, low] = [Number.parseInt(mapped[1] as string, 16), Number.parseInt(mapped[2] as string, 16)];
    return [high >> 8, high & 255, low >> 8, low & 255].join(".");
  }
  const [head = "", tail] = hostname.split("::");
  const groups = head === "" ? [] : head.split(":");
  if (tail !== undefined) {
    const rest = tail === "" ? [] : tail.split(":");
    groups.push(...Array<string>(8 - groups.length - rest.length).fill("0"), ...rest);
  }
  return groups.slice(0, 4).join(":");
}
