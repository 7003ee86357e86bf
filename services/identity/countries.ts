import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { isIP } from "node:net";
import { open, type Response } from "maxmind";

/**
 * Countries by network address, and how far apart they are. Addresses: `@ip-location-db/geo-whois-asn-country-mmdb` (CC0, from the
 * registries' whois), read with `maxmind`. Places and areas: `world-countries`.
 */
const require = createRequire(import.meta.url);
const DATABASE_FILE = require.resolve("@ip-location-db/geo-whois-asn-country-mmdb/geo-whois-asn-country.mmdb");

/** The country of an address, ISO 3166-1 alpha-2; empty for one that is in no country, or no address. */
export type CountryOf = (address: string) => string;

/** Reads the database into memory (8 MB). Throws when it is not there. */
export async function openCountries(): Promise<CountryOf> {
  if (!existsSync(DATABASE_FILE)) throw new Error(`${DATABASE_FILE} is missing`);
  const reader = await open<Response>(DATABASE_FILE);
  return (address) => {
    const found = isIP(address) === 0 ? null : reader.get(address);
    return found !== null && "country_code" in found ? String(found.country_code) : "";
  };
}

interface Place {
  readonly latitude: number;
  readonly longitude: number;
  /** Of a circle of the country's area. */
  readonly radiusKm: number;
}

const PLACES: ReadonlyMap<string, Place> = new Map(
  (
    require("world-countries/countries.json") as {
      readonly cca2: string;
      readonly latlng: readonly [number, number];
      readonly area: number;
    }[]
  ).map(({ cca2, latlng: [latitude, longitude], area }) => [
    cca2,
    { latitude, longitude, radiusKm: Math.sqrt(Math.max(0, area) / Math.PI) },
  ]),
);

/** IUGG's mean radius. */
const EARTH_RADIUS_KM = 6_371.0088;
const RADIANS_PER_DEGREE = Math.PI / 180;
/** Countries are no circles: Chile and Argentina are neighbours along 5,000 km. */
const RADII_TAKEN_OFF = 2;

/**
 * How far it is from one country to another at the least, roughly: the great-circle distance of their middles, less twice the radius
 * of each, so that neighbours are near; 0 when they are the same, or one is not known.
 *
 * The great circle by the haversine formula: hav(d / r) = hav(φ2 − φ1) + cos φ1 cos φ2 hav(λ2 − λ1), hav(θ) = sin²(θ / 2)
 * (R. W. Sinnott, "Virtues of the Haversine", Sky and Telescope 68 (2), 1984, p. 159).
 */
export function distanceKm(from: string, to: string): number {
  const [a, b] = [PLACES.get(from), PLACES.get(to)];
  if (from === to || a === undefined || b === undefined) return 0;
  return Math.max(0, greatCircleKm(a, b) - RADII_TAKEN_OFF * (a.radiusKm + b.radiusKm));
}

/** Between two places in degrees. */
export function greatCircleKm(
  from: { readonly latitude: number; readonly longitude: number },
  to: { readonly latitude: number; readonly longitude: number },
): number {
  const haversine = (degrees: number) => Math.sin((degrees * RADIANS_PER_DEGREE) / 2) ** 2;
  const cosine = (degrees: number) => Math.cos(degrees * RADIANS_PER_DEGREE);
  const sum =
    haversine(to.latitude - from.latitude) +
    cosine(from.latitude) * cosine(to.latitude) * haversine(to.longitude - from.longitude);
  return 2 * EARTH_RADIUS_KM * Math.asin(Math.sqrt(Math.min(1, sum)));
}
