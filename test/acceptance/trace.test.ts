/** Rows led to their records and back, over the main job, by the commands as they are typed. */
import { randomInt } from 'node:crypto'
import { readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { adflow, temporaryFolder } from '../harness/cli.ts'
import { QUICKSTART, QuickstartJob } from '../harness/quickstart-job.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const EVENTS = LONG ? 200_000 : 20_000
const ROWS = LONG ? 10_000 : 500
const RECORDS = LONG ? 1_000 : 100
const seed = Number(process.env['SEED'] ?? randomInt(1_000_000))

interface SourceRecord {
  readonly origin: string
  readonly line: number
  readonly raw: string
}
interface Traced {
  readonly exit: number
  readonly rows: readonly {
    readonly row: Readonly<Record<string, string | null>>
    readonly records: readonly SourceRecord[]
  }[]
}
interface Impacted {
  readonly exit: number
  readonly records: readonly (SourceRecord & {
    readonly fate: string
    readonly by: string | null
    readonly stores: readonly { readonly store: string; readonly status: string; readonly row: unknown }[]
  })[]
}

describe(`the main job over ${EVENTS} events`, () => {
  const folder = temporaryFolder('trace')
  const job = new QuickstartJob(folder.path)
  afterAll(() => folder.remove())
  beforeAll(async () => {
    await job.sample('--rows', String(EVENTS), '--seed', '11')
    expect(await job.summary()).toMatchObject({ exit: 0, unaccounted: 0 })
  })

  const asked = async <T>(command: string, ...args: readonly string[]): Promise<T> =>
    (await adflow([command, QUICKSTART, '--json', ...args], { env: job.env })).json<T>()
  const placeOf = ({ origin, line }: SourceRecord) => `${origin}:${line}`

  it(`leads ${ROWS} random rows to bytes that give the row again`, async () => {
    for (const store of ['warehouse', 'archive']) {
      const { exit, rows } = await asked<Traced>('trace', '--store', store, '--sample', String(ROWS))
      expect(exit).toBe(0)
      expect(rows.length).toBe(ROWS)
      const places = new Set<string>()
      for (const { row, records } of rows) {
        expect(records.length).toBe(1)
        const [record] = records as [SourceRecord]
        places.add(placeOf(record))
        expect(read(record.raw), placeOf(record)).toEqual(own(row))
      }
      expect(places.size).toBe(ROWS)
    }
  })

  it(`tells what came of every record, as the truth states it, and leads ${RECORDS} of them back (seed ${seed})`, async () => {
    const records: Impacted['records'][number][] = []
    for (const name of readdirSync(job.data).filter((file) => file.startsWith('events-'))) {
      const found = await asked<Impacted>('impact', '--file', join(job.data, name), '--limit', String(EVENTS))
      expect(found.exit).toBe(0)
      for (const record of found.records) records.push(record)
    }
    const { expect: stated } = job.truth
    const passed = records.filter(({ fate }) => fate === 'passed')
    const count = (wanted: string) => records.filter(({ fate }) => fate === wanted).length
    expect([records.length, passed.length, count('deduplicated')]).toEqual([
      stated.read,
      stated.loaded,
      stated.deduplicated,
    ])
    const quarantined = Map.groupBy(
      records.filter(({ fate }) => fate === 'quarantined'),
      ({ by }) => by ?? '',
    )
    const counts = Object.fromEntries([...quarantined].map(([rule, own]) => [rule, own.length]))
    expect(counts).toEqual(job.expected().quarantined_by)

    let state = seed
    const chosen = Array.from({ length: RECORDS }, () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
      return passed[state % passed.length] as Impacted['records'][number]
    })
    for (const { stores } of chosen) {
      expect(stores.map(({ store, status }) => [store, status])).toEqual([
        ['warehouse', 'there'],
        ['archive', 'there'],
      ])
      expect(stores[0]?.row).toEqual(stores[1]?.row)
    }
    const wanted = join(folder.path, 'wanted.csv')
    writeFileSync(wanted, ['event_id', ...new Set(chosen.map(({ raw }) => read(raw).event_id))].join('\n'))
    const back = await asked<Traced>('trace', '--rows', wanted, '--limit', String(RECORDS))
    const places = new Map(back.rows.map(({ row, records: own }) => [row['event_id'], placeOf(own[0] as SourceRecord)]))
    for (const record of chosen) expect(places.get(read(record.raw).event_id)).toBe(placeOf(record))
  })
})

/** The columns that no step changes, from the bytes of a record. */
function read(raw: string) {
  const fields = JSON.parse(raw) as Record<string, string | number | undefined>
  const text = (name: string) => (fields[name] === undefined || fields[name] === null ? null : String(fields[name]))
  return {
    // Beyond 2^53: as it is written.
    event_id: /"event_id":(\d+)/.exec(raw)?.[1] ?? null,
    event_time: Date.parse(String(fields['event_time'])),
    ...Object.fromEntries(UNCHANGED.map((name) => [name, text(name)])),
  }
}

function own(row: Readonly<Record<string, string | null>>) {
  return {
    event_id: row['event_id'],
    event_time: Date.parse(`${row['event_time']}Z`),
    ...Object.fromEntries(UNCHANGED.map((name) => [name, row[name] ?? null])),
  }
}

const UNCHANGED = ['event_type', 'campaign_id', 'crid', 'impid', 'publisher', 'os', 'country', 'city', 'cost_micros']
