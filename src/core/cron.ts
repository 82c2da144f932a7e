/**
 * Times of a schedule. A pattern with one hour and one minute comes once a day, whatever happens to the clock: at the end of the gap
 * where a change to summer time leaves it out, the first time where it comes twice. Any other pattern follows the clock.
 */
import { Cron } from 'croner'

export interface CronTimes {
  /** The first time after `afterMs`; undefined: none will come. Milliseconds since the epoch. */
  after(afterMs: number): number | undefined
  /** The last time at or before `atMs`; undefined: there was none. */
  before(atMs: number): number | undefined
}

/** @throws RangeError whose message says what is wrong with the pattern, or the zone. */
export function cronTimes(pattern: string, timezone: string): CronTimes {
  if (!isTimezone(timezone)) throw new RangeError(`there is no time zone ${timezone}`)
  const cron = read(pattern, timezone)
  return {
    after: (afterMs) => cron.nextRun(new Date(afterMs))?.getTime(),
    before: (atMs) => cron.previousRuns(1, new Date(Math.floor(atMs / 1000) * 1000 + 1000))[0]?.getTime(),
  }
}

export function isTimezone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name })
    return true
  } catch {
    return false
  }
}

function read(pattern: string, timezone: string): Cron {
  const fields = pattern.trim().split(/\s+/).length
  if (!pattern.startsWith('@') && fields !== 5 && fields !== 6)
    throw new RangeError(`a pattern has 5 fields, or 6 with seconds first; this one has ${fields}`)
  try {
    return new Cron(pattern, { timezone, paused: true })
  } catch (error) {
    throw new RangeError((error instanceof Error ? error.message : String(error)).replace(/^CronPattern: /, ''), {
      cause: error,
    })
  }
}
