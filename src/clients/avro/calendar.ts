/** Days and times of Avro as the engine reads them. undefined: beyond what it can say. */

const DAY_SECONDS = 86_400
/** Of what the engine calls a DATE; a TIMESTAMP ends earlier, and its cast says so. */
const MOST_DAYS = 2_147_483_646

const two = (value: number) => String(value).padStart(2, '0')

/** `2026-03-30`; with `(BC)` behind it before the year 1. `days` since 1970. */
export function dateText(days: number): string | undefined {
  if (Math.abs(days) > MOST_DAYS) return undefined
  // Eras of 400 years from the first of March of year 0: https://howardhinnant.github.io/date_algorithms.html
  const shifted = days + 719_468
  const era = Math.floor(shifted / 146_097)
  const ofEra = shifted - era * 146_097
  const yearOfEra = Math.floor(
    (ofEra - Math.floor(ofEra / 1460) + Math.floor(ofEra / 36_524) - Math.floor(ofEra / 146_096)) / 365,
  )
  const ofYear = ofEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100))
  const fromMarch = Math.floor((5 * ofYear + 2) / 153)
  const day = ofYear - Math.floor((153 * fromMarch + 2) / 5) + 1
  const month = fromMarch < 10 ? fromMarch + 3 : fromMarch - 9
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
  const [shown, suffix] = year > 0 ? [year, ''] : [1 - year, ' (BC)']
  return `${String(shown).padStart(4, '0')}-${two(month)}-${two(day)}${suffix}`
}

/** `10:00:00.123`. `value` is in units of `digits` decimal places of a second. */
export function timeText(value: number | bigint, digits: 3 | 6 | 9): string | undefined {
  const { seconds, fraction } = split(value, digits)
  return seconds < 0 || seconds >= DAY_SECONDS ? undefined : clock(seconds, fraction, digits)
}

/** `2026-03-30T10:00:00.123456`, without a zone. */
export function timestampText(value: number | bigint, digits: 3 | 6 | 9): string | undefined {
  const { seconds, fraction } = split(value, digits)
  const days = Math.floor(seconds / DAY_SECONDS)
  const date = dateText(days)
  return date === undefined ? undefined : `${date}T${clock(seconds - days * DAY_SECONDS, fraction, digits)}`
}

function split(value: number | bigint, digits: 3 | 6 | 9): { readonly seconds: number; readonly fraction: number } {
  if (typeof value === 'number') {
    const unit = 10 ** digits
    const seconds = Math.floor(value / unit)
    return { seconds, fraction: value - seconds * unit }
  }
  const unit = 10n ** BigInt(digits)
  const fraction = ((value % unit) + unit) % unit
  return { seconds: Number((value - fraction) / unit), fraction: Number(fraction) }
}

function clock(seconds: number, fraction: number, digits: number): string {
  const [hour, minute] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60]
  return `${two(hour)}:${two(minute)}:${two(seconds % 60)}.${String(fraction).padStart(digits, '0')}`
}
