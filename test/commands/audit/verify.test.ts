import { randomInt } from 'node:crypto'
import { copyFileSync, readdirSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import AuditVerify from '../../../src/commands/audit/verify.ts'
import { openLedger } from '../../../src/lineage/ledger.ts'
import { SmallJob } from '../../harness/small-job.ts'
import { type Outcome, runCommand } from '../run-command.ts'

const EVENTS = 60

let folder = ''
let job: SmallJob
let whole: ReadonlyMap<string, Buffer>
const ledger = () => join(job.state, 'ledger')
const segments = () => [...whole.keys()]

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-audit-'))
  job = new SmallJob(folder)
  const written = await openLedger(ledger(), { segmentBytes: 4000 })
  for (let rows = 1; rows <= EVENTS; rows += 1)
    await written.append([{ type: 'store_paid', token: `Grüße ${rows}`, loader: 'warehouse', rows }])
  await written.close()
  whole = new Map(readdirSync(ledger()).map((name) => [name, readFileSync(join(ledger(), name))]))
})
afterAll(() => rm(folder, { recursive: true }))
beforeEach(() => {
  for (const name of readdirSync(ledger())) rmSync(join(ledger(), name))
  for (const [name, bytes] of whole) writeFileSync(join(ledger(), name), bytes)
})

function verify(...argv: string[]): Promise<Outcome> {
  return runCommand('audit verify', AuditVerify, [job.file, '--state-dir', join(folder, 'state'), ...argv])
}

/** The verdict, with the place where the chain breaks. */
async function found(...argv: string[]) {
  const { stdout, exit } = await verify('--json', ...argv)
  const { error, ...result } = JSON.parse(stdout)
  return { exit, code: error?.code, ...error?.details, ...result }
}

const damage = { exit: 78, code: 'LEDGER_DAMAGED' }
const noted = async () => (await found()).head as string

describe('adflow audit verify', () => {
  it('says that the chain holds, over how many events, and its head', async () => {
    expect(segments().length).toBeGreaterThan(3)
    const text = await verify()
    expect(text).toMatchObject({ exit: 0, stderr: '' })
    expect(text.stdout).toContain(`the hash chain holds over ${EVENTS} events in ${segments().length} segments`)
    expect(text.stdout).toMatch(new RegExp(`^head ${EVENTS}:[0-9a-f]{64}$`, 'm'))
    expect(await found()).toMatchObject({ exit: 0, schema_version: 1, events: EVENTS, torn: null })
  })

  const seed = randomInt(2 ** 31)
  it(`names segment, line and byte when any one byte was changed (seed ${seed})`, async () => {
    let state = seed
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    for (let round = 0; round < 200; round += 1) {
      const segment = segments()[random(segments().length)] as string
      const bytes = Buffer.from(whole.get(segment) as Buffer)
      // In each fourth round a line feed or the end of the newest segment: what a torn write could be taken for.
      const lineFeeds = [...bytes.keys()].filter((at) => bytes[at] === 10)
      const at = round % 4 === 0 ? (lineFeeds[random(lineFeeds.length)] as number) : random(bytes.length)
      const before = bytes.readUInt8(at)
      bytes.writeUInt8((before + 1 + random(255)) % 256, at)
      writeFileSync(join(ledger(), segment), bytes)
      const start = at === 0 ? 0 : (whole.get(segment) as Buffer).lastIndexOf(10, at - 1) + 1
      const line = lineFeeds.filter((feed) => feed < at).length + 1
      expect(await found(), `byte ${at} of ${segment}, ${before} → ${bytes[at]}`).toMatchObject({
        ...damage,
        segment,
        line,
        byte: start,
      })
      expect(readFileSync(join(ledger(), segment))).toEqual(bytes)
      writeFileSync(join(ledger(), segment), whole.get(segment) as Buffer)
    }
  })

  it('names the place in text, with exit 78', async () => {
    const path = join(ledger(), '000002.ndjson')
    writeFileSync(path, readFileSync(path, 'utf8').replace('warehouse', 'Warehouse'))
    const text = await verify()
    expect(text).toMatchObject({ exit: 78, stdout: '' })
    expect(text.stderr).toContain(`${path}, line 1, byte 0: the hash of the line does not hold`)
  })

  it.each([
    ['missing', 2, (path: (n: number) => string) => rmSync(path(2)), /is missing/],
    ['the first and missing', 1, (path: (n: number) => string) => rmSync(path(1)), /is missing/],
    [
      'a copy of the one before',
      3,
      (path: (n: number) => string) => copyFileSync(path(2), path(3)),
      /not chained to the one before/,
    ],
    [
      'exchanged with the next',
      2,
      (path: (n: number) => string) => {
        renameSync(path(2), path(9))
        renameSync(path(3), path(2))
        renameSync(path(9), path(3))
      },
      /not chained to the one before/,
    ],
    [
      'cut off in the middle though it is full',
      2,
      (path: (n: number) => string) => truncateSync(path(2), 900),
      /unfinished/,
    ],
  ])('names the segment that is %s', async (_what, number, change, reason) => {
    change((n) => join(ledger(), `00000${n}.ndjson`))
    const { message, ...verdict } = await found()
    expect(verdict).toMatchObject({
      ...damage,
      segment: `00000${number}.ndjson`,
      reason: expect.stringMatching(reason),
    })
  })

  it('names the first of two lines that were swapped, and a line that was doubled', async () => {
    const path = join(ledger(), '000002.ndjson')
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n')
    const [a = '', b = '', c = '', ...others] = lines
    writeFileSync(path, `${[a, c, b, ...others].join('\n')}\n`)
    expect(await found()).toMatchObject({ ...damage, line: 2, byte: Buffer.byteLength(a) + 1 })
    writeFileSync(path, `${[a, a, b, c, ...others].join('\n')}\n`)
    expect(await found()).toMatchObject({ ...damage, line: 2, byte: Buffer.byteLength(a) + 1 })
  })

  it(`finds a tail that was cut off anywhere by a head that was noted, and by nothing else (seed ${seed})`, async () => {
    const head = await noted()
    const last = segments().at(-1) as string
    const bytes = whole.get(last) as Buffer
    expect(await found('--head', head)).toMatchObject({ exit: 0, compared_with: { head } })
    for (let round = 0; round < 10; round += 1) {
      const length = (seed + round * 7919) % bytes.length
      writeFileSync(join(ledger(), last), bytes.subarray(0, length))
      const alone = await found()
      const ends = length === 0 || bytes[length - 1] === 10
      expect(alone, `${length} of ${bytes.length} bytes`).toMatchObject({
        exit: 0,
        torn: ends ? null : { segment: last, byte: bytes.subarray(0, length).lastIndexOf(10) + 1 },
      })
      expect(alone.events).toBeLessThan(EVENTS)
      expect(await found('--head', head)).toMatchObject({
        ...damage,
        segment: last,
        reason: expect.stringContaining('was noted elsewhere'),
      })
      expect((await found('--head', head.split(':')[1] as string)).reason).toMatch(/its end was cut off/)
    }
  })

  it('finds a ledger that was written anew by a head that was noted', async () => {
    const head = await noted()
    for (const name of readdirSync(ledger())) rmSync(join(ledger(), name))
    const forged = await openLedger(ledger())
    for (let rows = 1; rows <= EVENTS; rows += 1)
      await forged.append([{ type: 'store_paid', token: 'forged', loader: 'warehouse', rows }])
    await forged.close()
    expect(await found()).toMatchObject({ exit: 0, events: EVENTS })
    expect(await found('--head', head)).toMatchObject({ ...damage, line: EVENTS })
  })

  it('refuses what is no head, and a job without a ledger', async () => {
    expect(await found('--head', 'latest')).toMatchObject({ exit: 2, code: 'USAGE' })
    rmSync(ledger(), { recursive: true })
    expect(await found()).toMatchObject({ exit: 78, code: 'STATE_MISSING' })
    const again = await openLedger(ledger())
    await again.close()
  })
})
