import { type FieldCheck, isLine } from "#lib/fields.ts";
import type { UserSettings } from "#proto/ledgermesh/identity/v1/identity.ts";

/** Checking what users say about themselves. */
const MAX_NAME_CHARACTERS = 100;
/** E.164. */
const PHONE = /^\+[1-9]\d{6,14}$/;
/** ISO 3166-1 alpha-2, all that were officially assigned in 2026. */
const COUNTRIES = new Set(
  `AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ CA CC CD CF
   CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH
   GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW
   KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG
   NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG SH SI SJ SK SL SM SN
   SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT
   ZA ZM ZW`.split(/\s+/),
);

export function checkName(check: FieldCheck, field: string, name: string): void {
  check.require(
    name.trim() !== "" && isLine(name, MAX_NAME_CHARACTERS),
    field,
    `must be 1 to ${MAX_NAME_CHARACTERS} characters on one line`,
  );
}

/** Empty is none. */
export function checkPhone(check: FieldCheck, field: string, phone: string): void {
  check.require(phone === "" || PHONE.test(phone), field, "must be a number in E.164 form, such as +420601123456");
}

export function checkCountry(check: FieldCheck, field: string, country: string): void {
  check.require(COUNTRIES.has(country), field, "must be a country by ISO 3166-1 alpha-2, such as CZ");
}

/** Notes violations, and answers the settings in their one form. */
export function checkSettings(check: FieldCheck, field: string, settings: UserSettings): UserSettings {
  const { language, timeZone, emailOnPayment } = settings;
  return {
    language: canonical(
      check,
      `${field}.language`,
      language,
      "must be a BCP 47 language tag, such as cs or pt-BR",
      () => Intl.getCanonicalLocales(language)[0],
    ),
    timeZone: canonical(
      check,
      `${field}.time_zone`,
      timeZone,
      "must be an IANA time zone, such as Europe/Prague",
      () =>
        /^[A-Za-z]/.test(timeZone) ? new Intl.DateTimeFormat("en", { timeZone }).resolvedOptions().timeZone : undefined,
    ),
    emailOnPayment,
  };
}

const MAX_TAG_CHARACTERS = 64;

function canonical(
  check: FieldCheck,
  field: string,
  text: string,
  description: string,
  read: () => string | undefined,
): string {
  if (text === "") return "";
  let value: string | undefined;
  try {
    value = text.length <= MAX_TAG_CHARACTERS ? read() : undefined;
  } catch {
    // RangeError: it is none.
  }
  check.require(value !== undefined, field, description);
  return value ?? "";
}
