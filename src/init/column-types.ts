/** Types that a guessed type may become in a contract, strictest first; the last one takes every value. */

export interface TypeChoice {
  readonly type: string
  readonly format?: string
}

const DATE_PATTERNS = [
  '%d.%m.%Y',
  '%m/%d/%Y',
  '%d/%m/%Y',
  '%m-%d-%Y',
  '%d-%m-%Y',
  '%b %d %Y',
  '%b %d, %Y',
  '%B %d, %Y',
  '%d %b %Y',
  '%d-%b-%Y',
]

const TIMESTAMP_PATTERNS = [
  ...['%d.%m.%Y', '%m/%d/%Y', '%d/%m/%Y', '%m-%d-%Y', '%d-%m-%Y', '%Y/%m/%d', '%b %d %Y'].flatMap((date) =>
    ['%H:%M', '%H:%M:%S', '%I:%M %p', '%I:%M:%S %p'].map((time) => `${date} ${time}`),
  ),
  '%a %b %d %H:%M:%S %z %Y',
  '%d/%b/%Y:%H:%M:%S %z',
]

/** Ways in which a text that is a point in time may be written. */
export const PATTERNS: readonly TypeChoice[] = [
  ...DATE_PATTERNS.map((format) => ({ type: 'date', format })),
  ...TIMESTAMP_PATTERNS.map((format) => ({ type: 'timestamp', format })),
]

const TEXT: TypeChoice = { type: 'varchar' }

/** What texts may be in which a system writes its numbers. */
export const TEXT_NUMBERS: readonly TypeChoice[] = [
  { type: 'bigint' },
  { type: 'hugeint' },
  { type: 'decimal(38,18)' },
  { type: 'double' },
  TEXT,
]

/** The same date with day and month the other way round. */
export function otherOrder({ type, format }: TypeChoice): TypeChoice | undefined {
  const swapped = format?.replace(/%([dm])([./-])%([dm])/, '%$3$2%$1')
  return swapped === undefined || swapped === format ? undefined : { type, format: swapped }
}

/** `patterns`: those that the first values fit. */
export function choicesFor(guess: string, patterns: readonly TypeChoice[]): readonly TypeChoice[] {
  if (/^U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?$/.test(guess)) return [{ type: 'bigint' }, { type: 'hugeint' }, TEXT]
  if (guess === 'DATE' || guess.startsWith('TIMESTAMP'))
    return [{ type: guess === 'DATE' ? 'date' : 'timestamp' }, ...patterns, TEXT]
  if (guess === 'VARCHAR') return [...patterns, TEXT]
  if (guess === 'JSON' || guess === '"NULL"') return [TEXT]
  if (/^(STRUCT|MAP)\(|\]$/.test(guess)) return [{ type: nested(guess) }, { type: 'json' }]
  return [{ type: guess.toLowerCase() }, TEXT]
}

/** Unsigned and 128-bit integers inside are guesses from few values. */
function nested(guess: string): string {
  return guess.replaceAll(/\b(UBIGINT|HUGEINT|UINTEGER)\b(?=[,)[])/g, 'BIGINT')
}
