import { hash } from 'node:crypto'
import { appendFileSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { DistributeSummary } from '../../src/distribute/distribute-job.ts'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { SmallJob } from '../harness/small-job.ts'
import { type Reaction, SECRET, WebhookReceiver } from '../harness/webhook-receiver.ts'

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const KILLS = LONG ? 50 : 6
const BATCHES = LONG ? 100 : 6
/** About so many fill a chunk. */
const BATCH_ROWS = 60
const DEAD_MS = LONG ? 60_000 : 2_000
const KEYS = 12

let folder: ReturnType<typeof temporaryFolder>
let receiver: WebhookReceiver
let job: SmallJob

beforeEach(async () => {
  folder = temporaryFolder('distribute')
  written = 0
  receiver = new WebhookReceiver()
  await receiver.start()
})

afterEach(async () => {
  await receiver.stop()
  folder.remove()
})

/** Pseudo-random numbers below 1 from a printed seed. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

function jobOf(more = '', batch = '{ rows: 1 }'): SmallJob {
  return new SmallJob(
    folder.path,
    `version: 1
name: rows
extract:
  input: { type: files, path: "data/*", settle: 0s }
contract:
  columns: { id: { type: bigint, required: true }, n: integer, name: varchar }
transform:
  - derive: { price: "id::decimal(30, 6) * 1000000000000.000001" }
load:
  archive: { type: files, format: parquet, path: archive }
distribute:
  hook:
    type: webhook
    url: ${receiver.url}
    secret: ${SECRET}
    allow_private: true
    key: n
    batch: ${batch}
    concurrency: 8
    retry: { initial: 20ms, max: 1s, deadline: 1h }
    breaker: { failures: 10, pause: 200ms }
    timeout: { connect: 500ms, headers: 500ms, body: 500ms, total: 700ms }
    patience: 2s
${more}resources: { chunk: 2700B }
`,
  )
}

let written = 0

/** So many batches of rows more, at the end of the one file; `n` is the key. */
function putRows(batches: number): void {
  const ids = Array.from({ length: batches * BATCH_ROWS }, (_, index) => written + index)
  written += ids.length
  const lines = ids.map((id) => JSON.stringify({ id, n: id % KEYS, name: `name ${id}` }))
  mkdirSync(join(folder.path, 'data'), { recursive: true })
  appendFileSync(join(folder.path, 'data', 'rows.ndjson'), `${lines.join('\n')}\n`)
}

interface Event {
  readonly id: string
  readonly partitionkey: string
  readonly data: { readonly id: number; readonly n: number; readonly price: string }
}

const eventsOf = (body: string): Event[] => [JSON.parse(body) as Event | Event[]].flat()
const acceptedIds = () => receiver.accepted.flatMap(({ body }) => eventsOf(body).map(({ data }) => data.id))
const distribute = (...args: string[]) => job.command(['distribute', job.file, '--json', ...args])
const letters = async () =>
  (await job.command(['dlq', 'list', job.file, '--json', '--limit', '1000000'])).json<{
    count: number
    letters: { id: string; reason: string; attempts: number; state: string; rows: number }[]
  }>()
const ledger = async (where: string) =>
  (
    await job.command([
      'query',
      '--job',
      job.file,
      '--format',
      'ndjson',
      `select type, state, consumer, who, reason from ledger where ${where} order by seq`,
    ])
  ).stdout
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as Record<string, string>)

/** Rows of a key in the order in which they were first accepted. */
function expectOrderPerKey(without: ReadonlySet<number>): void {
  const last = new Map<number, number>()
  for (const { body } of receiver.accepted)
    for (const { data } of eventsOf(body)) {
      if (without.has(data.id)) continue
      expect(data.id, `key ${data.n}`).toBeGreaterThan(last.get(data.n) ?? -1)
      last.set(data.n, data.id)
    }
}

describe('a webhook consumer that fails in every way', () => {
  it.each([
    ['one row to a request', '{ rows: 1 }'],
    ['up to seven rows to a request', '{ rows: 7, bytes: 1KB }'],
  ])(
    `and ${KILLS} kills of adflow lose no row, give no id two contents, and keep the order per key: %s`,
    async (_, batch) => {
      const seed = Number(process.env['ADFLOW_TEST_SEED'] ?? Date.now() % 1_000_000)
      console.info(`seed ${seed}`)
      const random = randomFrom(seed)
      let trapped = 0
      const trap = createServer((_, response) => {
        trapped += 1
        response.end()
      })
      await new Promise<void>((resolve) => trap.listen(0, '127.0.0.1', resolve))
      const inside = `http://127.0.0.1:${(trap.address() as AddressInfo).port}/latest/meta-data/`
      let onRequest = () => {}
      const chaos = (): Reaction => {
        onRequest()
        const dice = random()
        if (dice < 0.6) return 200
        if (dice < 0.7) return 500
        if (dice < 0.74) return 'hang'
        if (dice < 0.8) return 'cut'
        if (dice < 0.86) return { status: 429, headers: { 'retry-after': '0' } }
        if (dice < 0.865) return { status: 503, headers: { 'retry-after': '1' } }
        if (dice < 0.94) return 422
        return { status: 302, headers: { location: inside } }
      }
      job = jobOf('  agency: { type: files, path: agency, format: csv, compression: gzip }\n', batch)
      receiver.react = chaos
      putRows(BATCHES / 2)
      let killed = 0
      for (let kill = 0; kill < KILLS; kill += 1) {
        if (kill === Math.floor(KILLS / 2)) putRows(BATCHES / 2)
        const dies = kill === KILLS - 2
        const after = 500 + random() * 1500
        // At an instant, or at a request, which a fast machine cannot be done before; the first at a request.
        let requests = kill === 0 || random() < 0.5 ? 1 + Math.floor(random() * 20) : Number.POSITIVE_INFINITY
        const args = random() < 0.5 && kill > 0 ? ['distribute', job.file, '--until-empty'] : ['run', job.file]
        const ending = job.command(args, {
          started: (child) => {
            void sleep(after).then(() => child.kill('SIGKILL'))
            onRequest = () => {
              requests -= 1
              if (requests === 0) child.kill('SIGKILL')
            }
          },
        })
        if (dies) {
          await receiver.stop()
          await sleep(DEAD_MS)
          await receiver.start()
        }
        if ((await ending).signal === 'SIGKILL') killed += 1
      }
      expect(killed).toBeGreaterThan(0)
      await job.run()
      const left = await distribute('--until-empty')
      expect(left.code, left.stdout).toBe(0)
      trap.close()

      const total = written
      const dead = await letters()
      expect(dead.count).toBeGreaterThan(0)
      const [first] = dead.letters
      expect(await shown(first?.id ?? '')).toMatchObject({
        state: 'dead',
        reason: expect.stringMatching(/answered (422|302)/),
        attempts: expect.any(Number),
      })
      const deadIds = new Set(deadBodies().flatMap((body) => eventsOf(body).map(({ data }) => data.id)))
      const accepted = new Set(acceptedIds())
      const everywhere = Array.from(
        { length: total },
        (_, id) => [accepted.has(id), deadIds.has(id)].filter(Boolean).length,
      )
      expect(everywhere).toEqual(new Array(total).fill(1))
      expectOrderPerKey(deadIds)
      expect(trapped).toBe(0)

      receiver.react = () => 200
      const replayed = await job.command(['dlq', 'replay', job.file, '--all', '--json', '--reason', 'mended'])
      expect(replayed.json()).toMatchObject({ count: dead.count })
      expect((await distribute()).json<DistributeSummary>().consumers['hook']).toEqual({
        delivered: deadIds.size,
        dead: 0,
        owed: 0,
      })
      expect((await letters()).count).toBe(0)
      expect(acceptedIds().sort((a, b) => a - b)).toEqual(Array.from({ length: total }, (_, id) => id))
      expect(receiver.faults).toEqual([])
      expect(eventsOf(receiver.accepted[0]?.body ?? '')[0]?.data.price).toMatch(/^\d+\.\d{12}$/)
      expect(await agencyRows()).toEqual(Array.from({ length: total }, (_, id) => id))
      expect((await ledger("type = 'dead_letters_changed'")).map(({ reason }) => reason)).toContain('mended')
    },
  )
})

const shown = async (id: string) => (await job.command(['dlq', 'show', job.file, id, '--json'])).json()

/** Of the letters of `hook`, as they are kept. */
function deadBodies(): string[] {
  const text = readFileSync(join(job.state, 'consumers', 'hook', 'letters.ndjson'), 'utf8')
  const lines = text.split('\n').filter(Boolean)
  return lines.map((line) => (JSON.parse(line) as { letter: { body: string } }).letter.body)
}

/** Ids of all files that have a manifest; each has the digest that stands beside it. */
async function agencyRows(): Promise<number[]> {
  const { gunzipSync } = await import('node:zlib')
  const path = join(folder.path, 'agency')
  const manifests = readdirSync(path).filter((name) => name.endsWith('.manifest.json'))
  const ids = manifests.flatMap((name) => {
    const { file, rows, sha256 } = JSON.parse(readFileSync(join(path, name), 'utf8'))
    const bytes = readFileSync(join(path, file))
    expect(hash('sha256', bytes)).toBe(sha256)
    expect(readFileSync(join(path, `${file}.sha256`), 'utf8')).toBe(`${sha256}  ${file}\n`)
    const lines = gunzipSync(bytes).toString('utf8').trim().split('\n').slice(1)
    expect(lines).toHaveLength(rows)
    return lines.map((line) => Number(line.split(',')[0]))
  })
  return ids.sort((a, b) => a - b)
}

describe('410 Gone', () => {
  it('switches the consumer off, audited, until somebody switches it on', async () => {
    job = jobOf()
    putRows(1)
    let requests = 0
    receiver.react = () => {
      requests += 1
      return requests <= 10 ? 200 : 410
    }
    const first = await job.summary()
    expect(first).toMatchObject({ status: 'owed', exit: 69, error: { code: 'CONSUMER_OWED' } })
    expect(first.consumers['hook']?.reason).toContain('answered 410')
    const seen = requests
    const second = await job.summary()
    expect(second.consumers['hook']?.reason).toContain('--switch-on hook')
    expect(requests).toBe(seen)
    receiver.react = () => 200
    const on = await distribute('--switch-on', 'hook')
    expect(on.json()).toMatchObject({ status: 'done', exit: 0, consumers: { hook: { owed: 0, dead: 0 } } })
    expect(acceptedIds().sort((a, b) => a - b)).toEqual(Array.from({ length: BATCH_ROWS }, (_, id) => id))
    expect((await ledger("type = 'consumer_switched'")).map(({ state }) => state)).toEqual(['off', 'on'])
  })
})

describe('a consumer that is down', () => {
  it('is owed what waits, and slows neither stores nor other consumers', async () => {
    const down = `  down:
    type: webhook
    url: http://127.0.0.1:9/hook
    secret: ${SECRET}
    allow_private: true
    patience: 6s
    retry: { initial: 50ms }
`
    job = jobOf(down)
    putRows(2)
    const summary = await job.summary()
    expect(summary).toMatchObject({
      status: 'owed',
      exit: 69,
      stores: { archive: { loaded: 2 * BATCH_ROWS, owed: 0 } },
      consumers: {
        hook: { delivered: 2 * BATCH_ROWS, owed: 0 },
        down: { delivered: 0, dead: 0, owed: 2 * BATCH_ROWS },
      },
    })
    // The healthy one was done long before the other was given up.
    const last = Math.max(...receiver.requests.map(({ at }) => at))
    expect(last).toBeLessThan(Date.parse(summary.started_at) + summary.seconds * 1000 - 500)
    expect(summary.consumers['down']?.reason).toContain('ECONNREFUSED')
    const text = readFileSync(job.file, 'utf8').replace('    patience: 6s', '    patience: 100ms\n    optional: true')
    job.put('job.yaml', text)
    expect(await job.summary()).toMatchObject({ status: 'owed', exit: 0 })
  })
})

describe('Retry-After', () => {
  it('is waited for, and nothing else is sent to the endpoint meanwhile', async () => {
    job = jobOf()
    putRows(1)
    let told: number | undefined
    receiver.react = () => {
      if (told !== undefined || receiver.requests.length < 5) return 200
      told = Date.now()
      return { status: 429, headers: { 'retry-after': '1' } }
    }
    expect(await job.summary()).toMatchObject({ exit: 0, consumers: { hook: { delivered: BATCH_ROWS } } })
    // What was under way when the answer came does not count.
    const later = receiver.requests.map(({ at }) => at - (told ?? 0)).filter((ms) => ms > 500)
    expect(Math.min(...later)).toBeGreaterThanOrEqual(999)
  })
})

describe('an outbox that is full', () => {
  it('is worked off in the middle of the run, which then goes on', async () => {
    job = jobOf('spool: { max_bytes: 1B }\n')
    putRows(6)
    expect(await job.summary()).toMatchObject({
      status: 'done',
      exit: 0,
      passed: written,
      consumers: { hook: { delivered: written, dead: 0, owed: 0 } },
    })
    expectOrderPerKey(new Set())
    expect(acceptedIds()).toHaveLength(written)
  })
})

describe('a range that is read again', () => {
  const rewind = (...args: string[]) => job.command(['state', 'rewind', job.file, 'input', '--reason', 'test', ...args])
  const delivered = async () => (await job.summary()).consumers['hook']?.delivered

  it('is not handed over again, after a damaged checkpoint and a rewind, but under new ids after a reload', async () => {
    job = jobOf()
    putRows(3)
    expect(await delivered()).toBe(written)
    const slots = ['a', 'b'].map((slot) => join(job.state, `checkpoint.${slot}`))
    const generation = (path: string) => Number(/"generation":"(\d+)"/.exec(readFileSync(path, 'utf8'))?.[1] ?? 0)
    const [newest = ''] = slots.sort((a, b) => generation(b) - generation(a))
    writeFileSync(newest, readFileSync(newest).fill(0x20, 20, 21))
    expect(await delivered()).toBe(0)
    await rewind()
    expect(await delivered()).toBe(0)
    expect(receiver.accepted).toHaveLength(written)
    await rewind('--reload')
    expect(await delivered()).toBe(written)
    expect(receiver.accepted).toHaveLength(2 * written)
    expect(receiver.faults).toEqual([])
  })
})

describe('a job file that changes while messages wait', () => {
  it('changes none of those that were made', async () => {
    job = jobOf()
    putRows(1)
    receiver.react = ({ body }) => (eventsOf(body).some(({ data }) => data.id % 3 === 0) ? 500 : 200)
    expect((await job.run()).code).toBe(69)
    const text = readFileSync(job.file, 'utf8')
    job.put(
      'job.yaml',
      text.replace('    key: n', '    select: { id: id, n: n, price: "price + 1" }\n    where: "id > 7"\n    key: n'),
    )
    receiver.react = () => 200
    putRows(1)
    const summary = (await job.run()).json<RunSummary>()
    expect(summary).toMatchObject({ exit: 0 })
    expect(receiver.faults).toEqual([])
    const prices = new Map(
      receiver.accepted.flatMap(({ body }) => eventsOf(body).map(({ data }) => [data.id, data.price])),
    )
    expect(prices.get(3)).toBe('3000000000000.000003000000')
    expect(prices.get(BATCH_ROWS)).toBe(`${BATCH_ROWS}000000000001.0000${BATCH_ROWS}000000`)
  })
})
