import { createHash } from 'node:crypto'
import { appendFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { DEFECT_CLASSES, DUPLICATE_DISTANCE } from '../../src/sample/defects.ts'
import { generateSample } from '../../src/sample/generate.ts'
import type { Truth } from '../../src/sample/truth.ts'
import { defectsOf, type ReadRecord, readSample } from './read-sample.ts'

const root = mkdtempSync(join(tmpdir(), 'adflow-sample-'))
afterAll(() => rmSync(root, { recursive: true }))
let folders = 0
const folder = (): string => join(root, String(folders++))

const FORMATS = [
  { format: 'ndjson' },
  { format: 'ndjson', gzip: true },
  { format: 'csv' },
  { format: 'csv', gzip: true },
  { format: 'parquet' },
] as const

type Fields = Record<string, string>

/** The statements of truth.json, counted anew from the files. */
async function recount(dir: string, truth: Truth): Promise<{ found: Partial<Truth>; good: Fields[]; files: number[] }> {
  const files = await readSample(dir, truth)
  const records = files.flat()
  const defects: Record<string, number> = Object.fromEntries(DEFECT_CLASSES.map((name) => [name, 0]))
  const firstSeen = new Map<string, number>()
  const textOf = new Map<string, string>()
  const good: Fields[] = []
  for (const [at, record] of records.entries()) {
    const seen = defectsOf(record)
    expect(seen.length, record.text).toBeLessThan(2)
    const [only] = seen
    const id = record.fields?.['event_id'] ?? ''
    if (only !== undefined) defects[only] = (defects[only] ?? 0) + 1
    else if (firstSeen.has(id)) {
      expect(record.text).toBe(textOf.get(id))
      expect(at - (firstSeen.get(id) ?? 0)).toBeLessThanOrEqual(DUPLICATE_DISTANCE)
      defects['duplicate'] = (defects['duplicate'] ?? 0) + 1
    } else {
      firstSeen.set(id, at)
      textOf.set(id, record.text)
      good.push(record.fields ?? {})
    }
  }
  return { found: statementsOf(records, good, defects), good, files: files.map((file) => file.length) }
}

function statementsOf(
  records: readonly ReadRecord[],
  good: readonly Fields[],
  defects: Record<string, number>,
): Partial<Truth> {
  const sum = (of: readonly Fields[], name: string): string =>
    String(of.reduce((total, row) => total + BigInt(row[name] ?? 0), 0n))
  const ofType = (of: readonly Fields[], type: string): number => of.filter((row) => row['event_type'] === type).length
  const campaigns = Object.entries(Object.groupBy(good, (row) => row['campaign_id'] ?? '')).map(([id, rows = []]) => [
    id,
    {
      events: rows.length,
      impressions: ofType(rows, 'impression'),
      clicks: ofType(rows, 'click'),
      conversions: ofType(rows, 'conversion'),
      spend_micros: sum(rows, 'cost_micros'),
    },
  ])
  const ids = good.map((row) => BigInt(row['event_id'] ?? 0)).sort((a, b) => (a < b ? -1 : 1))
  const { duplicate = 0, ...quarantined } = defects
  return {
    rows: records.length,
    clean: good.length,
    defects: defects as unknown as Truth['defects'],
    expect: {
      read: records.length,
      loaded: good.length,
      quarantined: quarantined as unknown as Truth['expect']['quarantined'],
      deduplicated: duplicate,
    },
    spend_micros: sum(good, 'cost_micros'),
    event_types: {
      impression: ofType(good, 'impression'),
      click: ofType(good, 'click'),
      conversion: ofType(good, 'conversion'),
    },
    campaigns: Object.fromEntries(campaigns),
    event_ids: { min: String(ids[0]), max: String(ids.at(-1)), sum: sum(good, 'event_id') },
  }
}

const digests = (dir: string): Record<string, string> =>
  Object.fromEntries(
    readdirSync(dir).map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(dir, name)))
        .digest('hex'),
    ]),
  )

describe.each(FORMATS)('a sample as $format, gzip $gzip', (shape) => {
  it('states in truth.json what an independent count finds in the files', async () => {
    const dir = folder()
    const truth = await generateSample({ ...shape, dir, rows: 12_000, seed: 7, files: 3, defects: '1%' })
    const { found, files } = await recount(dir, truth)
    expect(JSON.parse(readFileSync(join(dir, 'truth.json'), 'utf8'))).toEqual(truth)
    expect(truth).toMatchObject(found)
    expect(truth.rows).toBe(12_000)
    expect(truth.defects).toEqual(
      Object.fromEntries(
        DEFECT_CLASSES.map((name) => [name, name === 'malformed' && shape.format === 'parquet' ? 0 : 120]),
      ),
    )
    expect(truth.files.map(({ rows }) => rows)).toEqual(files)
    for (const { name, bytes } of truth.files) expect(readFileSync(join(dir, name)).length).toBe(bytes)
  })

  it('is the same bytes for the same seed, other bytes for another', async () => {
    const [one, two, other] = [folder(), folder(), folder()]
    for (const [dir, seed] of [
      [one, 3],
      [two, 3],
      [other, 4],
    ] as const)
      await generateSample({ ...shape, dir, rows: 3_000, seed })
    expect(digests(one)).toEqual(digests(two))
    expect(digests(one)['truth.json']).not.toBe(digests(other)['truth.json'])
  })

  it('goes on with --append: old bytes stay, new ids and times follow, the truth covers both', async () => {
    const dir = folder()
    const before = await generateSample({ ...shape, dir, rows: 4_000, files: 2, defects: '1%' })
    const last = join(dir, before.files.at(-1)?.name ?? '')
    const bytes = readFileSync(last)
    const truth = await generateSample({ dir, rows: 2_000, append: true, defects: '1%' })
    const { found, good, files } = await recount(dir, truth)
    expect(truth).toMatchObject(found)
    expect(readFileSync(last).subarray(0, bytes.length).equals(bytes)).toBe(true)
    const grows = shape.format !== 'parquet' && !('gzip' in shape)
    expect(files).toEqual(grows ? [2_000, 3_000, 1_000] : [2_000, 2_000, 2_000])
    expect(truth.batches.map(({ rows }) => rows)).toEqual([4_000, 2_000])
    const added = good.filter((row) => (row['event_time'] ?? '') >= before.end)
    expect(added).toHaveLength(truth.clean - before.clean)
    expect(added.every((row) => BigInt(row['event_id'] ?? 0) > BigInt(before.event_ids.max))).toBe(true)
    expect(new Set(good.map((row) => row['impid'])).size).toBe(truth.event_types.impression)
  })
})

describe('the traffic', () => {
  it('comes in order, over the stated days, with ids that no double can hold', async () => {
    const dir = folder()
    const truth = await generateSample({ dir, rows: 8_000, start: '2026-05-04', days: 2 })
    const { good } = await recount(dir, truth)
    const times = good.map((row) => row['event_time'] ?? '')
    expect(times).toEqual(times.toSorted())
    expect([truth.start, truth.end]).toEqual(['2026-05-04T00:00:00.000Z', '2026-05-06T00:00:00.000Z'])
    expect(times.every((time) => time >= truth.start && time < truth.end)).toBe(true)
    const evening = times.filter((time) => time.slice(11, 13) === '20').length
    const night = times.filter((time) => time.slice(11, 13) === '04').length
    expect(evening).toBeGreaterThan(4 * night)
    expect(good.every((row) => BigInt(row['event_id'] ?? 0) > 2n ** 53n)).toBe(true)
    expect(new Set(good.map((row) => Number(row['event_id']))).size).toBeLessThan(good.length / 100)
    expect(new Set(good.map((row) => row['event_id'])).size).toBe(good.length)
  })

  it.each([1_500, 40_000])('keeps the funnel whole among the clean events of %i records', async (rows) => {
    const dir = folder()
    const truth = await generateSample({ dir, rows, defects: '2%' })
    const { good } = await recount(dir, truth)
    const byImp = Object.groupBy(good, (row) => row['impid'] ?? '')
    for (const events of Object.values(byImp)) {
      const [impression, click, conversion, ...more] = events ?? []
      expect([impression, click, conversion].map((event) => event?.['event_type'] ?? '').join('>')).toMatch(
        /^impression>(click>(conversion)?|>)$/,
      )
      expect(more).toEqual([])
      for (const event of [click, conversion])
        for (const name of event === undefined ? [] : ['campaign_id', 'crid', 'user_id', 'city'])
          expect(event?.[name]).toBe(impression?.[name])
      if (click !== undefined) expect((click['event_time'] ?? '') > (impression?.['event_time'] ?? '')).toBe(true)
      if (conversion !== undefined) expect((conversion['event_time'] ?? '') > (click?.['event_time'] ?? '')).toBe(true)
    }
    expect(truth.event_types.click).toBeGreaterThan(10)
    if (rows > 10_000) expect(truth.event_types.conversion).toBeGreaterThan(10)
  })

  it('refers to the campaigns of campaigns.csv, whose names need Unicode and quoting', async () => {
    const dir = folder()
    const truth = await generateSample({ dir, rows: 20_000 })
    const [header, ...lines] = readFileSync(join(dir, truth.reference), 'utf8').trimEnd().split('\n')
    expect(header).toBe('id,name,advertiser_id,advertiser,adomain,pricing,cur,daily_budget_micros')
    expect(new Set(lines.map((line) => line.split(',')[0]))).toEqual(new Set(Object.keys(truth.campaigns)))
    expect(lines.join('\n')).toMatch(/华夏旅行.*🛒/)
    expect(lines.join('\n')).toContain('"Acme, Inc."')
  })
})

describe('the folder', () => {
  it('stays as it was when the work is interrupted', async () => {
    const dir = folder()
    const stop = new AbortController()
    const work = generateSample(
      { dir, rows: 400_000, files: 40 },
      { signal: stop.signal, onProgress: () => stop.abort() },
    )
    await expect(work).rejects.toMatchObject({ code: 'INTERRUPTED' })
    expect(readdirSync(dir)).toEqual([])
  })

  it('is not overwritten without --force, and holds nothing old afterwards', async () => {
    const dir = folder()
    await generateSample({ dir, rows: 100, files: 5 })
    await expect(generateSample({ dir, rows: 100 })).rejects.toMatchObject({ code: 'USAGE' })
    await generateSample({ dir, rows: 100, files: 2, format: 'csv', force: true })
    expect(readdirSync(dir).sort()).toEqual(['campaigns.csv', 'events-0001.csv', 'events-0002.csv', 'truth.json'])
  })

  it('is not appended to where its files are no longer what truth.json says', async () => {
    const dir = folder()
    await generateSample({ dir, rows: 100, files: 1 })
    appendFileSync(join(dir, 'events-0001.ndjson'), '{}\n')
    await expect(generateSample({ dir, rows: 10, append: true })).rejects.toMatchObject({ code: 'SOURCE_CHANGED' })
    const empty = folder()
    await expect(generateSample({ dir: empty, append: true })).rejects.toMatchObject({ code: 'USAGE' })
    expect(existsSync(empty)).toBe(false)
  })
})
