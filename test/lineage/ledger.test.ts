import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { LedgerEvent } from '../../src/lineage/events.ts'
import { type LedgerOptions, openLedger } from '../../src/lineage/ledger.ts'
import { GENESIS } from '../../src/lineage/ledger-line.ts'
import { verifyLedger } from '../../src/lineage/ledger-verify.ts'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'adflow-ledger-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const paid = (i: number, token = `t${i}`): LedgerEvent => ({ type: 'store_paid', token, loader: 'dw', rows: i })
const segment = (number = 1) => join(dir, `00000${number}.ndjson`)
const tokens = () =>
  segments().flatMap((name) =>
    readFileSync(join(dir, name), 'utf8')
      .trimEnd()
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line).token),
  )
const segments = () =>
  readdirSync(dir)
    .filter((name) => name.endsWith('.ndjson'))
    .sort()

async function write(count: number, options: LedgerOptions = {}): Promise<void> {
  const ledger = await openLedger(dir, options)
  for (let i = 1; i <= count; i += 1) await ledger.append([paid(ledger.head.seq + 1)])
  await ledger.close()
}

test('events become chained lines that carry their run and time', async () => {
  const ledger = await openLedger(dir, { run: 'r1', now: () => new Date(0) })
  await ledger.append([paid(1), paid(2, 'Grüße "1"\n')])
  await ledger.close()
  const text = readFileSync(segment(), 'utf8')
  const [first, second] = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(first).toMatchObject({ seq: 1, run: 'r1', at: '1970-01-01T00:00:00.000Z', token: 't1', prev: GENESIS.hash })
  expect(second).toMatchObject({ seq: 2, token: 'Grüße "1"\n', prev: first.hash })
  expect(await verifyLedger(dir)).toEqual({ segments: 1, events: 2, head: { seq: 2, hash: second.hash } })
})

test('a reopened ledger goes on where it stood', async () => {
  await write(3)
  await write(2)
  expect(tokens()).toEqual(['t1', 't2', 't3', 't4', 't5'])
  expect(await verifyLedger(dir)).toMatchObject({ events: 5 })
})

test('many appends at once are written in order, each group whole', async () => {
  const ledger = await openLedger(dir)
  const appends = Array.from({ length: 500 }, (_, i) => ledger.append([paid(i, `a${i}`), paid(i, `b${i}`)]))
  await Promise.all(appends)
  await ledger.close()
  expect(tokens()).toEqual(Array.from({ length: 500 }, (_, i) => [`a${i}`, `b${i}`]).flat())
  expect(await verifyLedger(dir)).toMatchObject({ events: 1000 })
})

test('segments are rotated by size and chained to each other; no event is split', async () => {
  await write(10, { segmentBytes: 500 })
  await write(10, { segmentBytes: 500 })
  expect(segments().length).toBeGreaterThan(3)
  expect(tokens()).toEqual(Array.from({ length: 20 }, (_, i) => `t${i + 1}`))
  expect(await verifyLedger(dir)).toMatchObject({ segments: segments().length, events: 20 })
})

test('a crash right after the creation of a segment leaves the chain whole', async () => {
  await write(3)
  writeFileSync(segment(2), '')
  await write(1)
  expect(readFileSync(segment(2), 'utf8')).toContain('"t4"')
  expect(await verifyLedger(dir)).toMatchObject({ segments: 2, events: 4 })
})

test('lines longer than the first bite of the tail are read', async () => {
  const ledger = await openLedger(dir)
  for (const size of [10, 100_000, 300_000]) await ledger.append([paid(size, 'x'.repeat(size))])
  await ledger.close()
  await write(1)
  expect(await verifyLedger(dir)).toMatchObject({ events: 4 })
})

test('an event that JSON cannot carry is refused alone', async () => {
  const ledger = await openLedger(dir)
  const results = await Promise.allSettled([
    ledger.append([paid(1)]),
    ledger.append([paid(2 ** 60)]),
    ledger.append([paid(3)]),
  ])
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  await ledger.close()
  expect(tokens()).toEqual(['t1', 't3'])
})

test('after a failed write everything is rejected; after close too', async () => {
  const ledger = await openLedger(dir, { segmentBytes: 1 })
  await ledger.append([paid(1)])
  rmSync(dir, { recursive: true })
  await expect(ledger.append([paid(2)])).rejects.toMatchObject({ code: 'LOCAL_IO' })
  await expect(ledger.append([paid(3)])).rejects.toMatchObject({ code: 'LOCAL_IO' })
  expect(ledger.head.seq).toBe(1)
  await ledger.close()
  await ledger.close()
  await expect(ledger.append([paid(4)])).rejects.toThrow(/closed/)
})

describe('a torn last line is cut off, kept aside and reported', () => {
  test('cut off at each length of the last write', async () => {
    await write(2)
    const two = statSync(segment()).size
    await write(1)
    const whole = readFileSync(segment())
    for (let length = two + 1; length < whole.length; length += 1) {
      writeFileSync(segment(), whole.subarray(0, length))
      const ledger = await openLedger(dir)
      expect(ledger.cut).toEqual({
        segment: '000001.ndjson',
        byte: two,
        bytes: length - two,
        kept: `000001.ndjson.${two}.cut`,
      })
      expect(ledger.head.seq).toBe(2)
      await ledger.append([paid(9)])
      await ledger.close()
      expect(await verifyLedger(dir)).toMatchObject({ events: 3 })
    }
    expect(readFileSync(`${segment()}.${two}.cut`)).toEqual(whole.subarray(two, -1))
  })

  test.each([
    ['zeros instead of the last line', (line: Buffer) => Buffer.alloc(line.length)],
    ['a finished last line that is not whole', (line: Buffer) => Buffer.concat([Buffer.alloc(20), line.subarray(20)])],
  ])('%s', async (_what, tear) => {
    await write(2)
    const two = statSync(segment()).size
    await write(1)
    const whole = readFileSync(segment())
    writeFileSync(segment(), Buffer.concat([whole.subarray(0, two), tear(whole.subarray(two))]))
    const ledger = await openLedger(dir)
    expect(ledger.cut).toMatchObject({ byte: two, bytes: whole.length - two })
    await ledger.close()
    expect(await verifyLedger(dir)).toMatchObject({ events: 2 })
  })

  test('the first line of a ledger, and the first line of a later segment', async () => {
    writeFileSync(segment(), '{"at":')
    const ledger = await openLedger(dir)
    expect(ledger.cut).toMatchObject({ byte: 0, bytes: 6 })
    await ledger.append([paid(1)])
    await ledger.close()
    writeFileSync(segment(2), '{"at"')
    await write(1)
    expect(await verifyLedger(dir)).toMatchObject({ segments: 2, events: 2 })
  })

  test('verify says torn, not damaged, while it is still there', async () => {
    await write(2)
    const { size } = statSync(segment())
    appendFileSync(segment(), '{"half')
    expect(await verifyLedger(dir)).toMatchObject({
      events: 2,
      torn: { segment: '000001.ndjson', byte: size, bytes: 6 },
    })
  })
})

describe('damage', () => {
  const offsets = (bytes: Buffer) => [...bytes.keys()].filter((i) => i === 0 || bytes[i - 1] === 10)

  test('verify names segment, line and byte of each byte flipped in turn', async () => {
    await write(3)
    const good = readFileSync(segment())
    const starts = offsets(good)
    for (let i = 0; i < good.length - 1; i += 1) {
      const bad = Buffer.from(good)
      bad.writeUInt8(bad.readUInt8(i) ^ 1, i)
      writeFileSync(segment(), bad)
      const { damage } = await verifyLedger(dir)
      const line = starts.filter((start) => start <= i).length
      expect(damage, `byte ${i}`).toMatchObject({ segment: '000001.ndjson', line, byte: starts[line - 1] })
    }
  })

  test.each([
    ['a line taken out', (lines: string[]) => lines.toSpliced(1, 1), 2, /not chained/],
    ['two lines exchanged', (lines: string[]) => [lines[0], lines[2], lines[1], lines[3]], 2, /not chained/],
    ['a line doubled', (lines: string[]) => [lines[0], lines[0], ...lines.slice(1)], 2, /not chained/],
    ['the first line taken out', (lines: string[]) => lines.slice(1), 1, /not chained/],
    ['an empty line', (lines: string[]) => lines.toSpliced(2, 0, ''), 3, /does not end in a hash/],
    ['a line that is no event', (lines: string[]) => lines.toSpliced(2, 0, '[]'), 3, /does not end in a hash/],
  ])('verify finds %s', async (_what, change, line, reason) => {
    await write(4)
    const lines = readFileSync(segment(), 'utf8').trimEnd().split('\n')
    writeFileSync(segment(), `${change(lines).join('\n')}\n`)
    expect((await verifyLedger(dir)).damage).toMatchObject({ line, reason: expect.stringMatching(reason) })
  })

  test('two bad lines at the end are no torn write: opening refuses and names the first', async () => {
    await write(4)
    const good = readFileSync(segment())
    const third = offsets(good)[2] ?? 0
    good.fill(0x20, third, third + 5)
    writeFileSync(segment(), good.subarray(0, -10))
    await expect(openLedger(dir)).rejects.toMatchObject({
      code: 'LEDGER_DAMAGED',
      exit: 78,
      message: expect.stringContaining(`${segment()}, line 3, byte ${third}: `),
    })
    expect(readFileSync(segment())).toEqual(good.subarray(0, -10))
  })

  test('a missing segment is found by verify and on opening', async () => {
    await write(10, { segmentBytes: 500 })
    rmSync(segment(2))
    expect((await verifyLedger(dir)).damage).toMatchObject({
      segment: '000002.ndjson',
      reason: 'the segment is missing',
    })
    await expect(openLedger(dir)).rejects.toMatchObject({ code: 'LEDGER_DAMAGED' })
  })

  test('an anchor shows that the newest events were cut off, or all was written anew', async () => {
    await write(3)
    const { head } = await verifyLedger(dir)
    expect((await verifyLedger(dir, head)).damage).toBeUndefined()
    const good = readFileSync(segment())
    truncateSync(segment(), offsets(good)[2] ?? 0)
    expect((await verifyLedger(dir)).damage).toBeUndefined()
    expect((await verifyLedger(dir, head)).damage?.reason).toMatch(/ends at event 2, but event 3 was noted/)
    rmSync(segment())
    await write(3, { run: 'forged' })
    expect((await verifyLedger(dir, head)).damage).toMatchObject({
      line: 3,
      reason: expect.stringContaining('noted elsewhere'),
    })
  })
})

test('whatever is appended in whatever groups and sizes of segment, it verifies and stays in order', async () => {
  const groups = fc.array(fc.array(fc.string({ maxLength: 40, unit: 'grapheme' }), { maxLength: 4 }), { maxLength: 12 })
  await fc.assert(
    fc.asyncProperty(groups, fc.integer({ min: 1, max: 2000 }), fc.boolean(), async (all, segmentBytes, reopen) => {
      for (const name of readdirSync(dir)) rmSync(join(dir, name))
      let ledger = await openLedger(dir, { segmentBytes })
      for (const group of all) {
        await ledger.append(group.map((token, i) => paid(i, token)))
        if (!reopen) continue
        await ledger.close()
        ledger = await openLedger(dir, { segmentBytes })
        expect(ledger.cut).toBeUndefined()
      }
      await ledger.close()
      const report = await verifyLedger(dir)
      expect(report.damage).toBeUndefined()
      expect(report.events).toBe(all.flat().length)
      expect(tokens()).toEqual(all.flat())
    }),
    { numRuns: 30 },
  )
})

test('killed with -9 ten times while it writes: the chain holds and no acknowledged event is lost', async () => {
  const module = JSON.stringify(new URL('../../src/lineage/ledger.ts', import.meta.url).href)
  const code = `const { openLedger } = await import(${module})
    const ledger = await openLedger(process.argv[1], { segmentBytes: 20000 })
    for (;;) {
      const events = Array.from({ length: 40 }, (_, i) => ({ type: 'store_paid', token: 'x'.repeat(300), loader: 'dw', rows: i }))
      await ledger.append(events)
      process.stdout.write(ledger.head.seq + ' ' + ledger.head.hash + '\\n')
    }`
  for (let round = 1; round <= 10; round += 1) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', code, dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const exited = once(child, 'exit')
    let acknowledged = GENESIS
    let left = round
    for await (const line of createInterface({ input: child.stdout })) {
      const [seq = '', hash = ''] = line.split(' ')
      acknowledged = { seq: Number(seq), hash }
      left -= 1
      if (left === 0) child.kill('SIGKILL')
    }
    await exited
    const ledger = await openLedger(dir)
    await ledger.close()
    const report = await verifyLedger(dir, acknowledged)
    expect(report.damage).toBeUndefined()
    expect(report.torn).toBeUndefined()
  }
})
