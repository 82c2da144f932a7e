import { writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Redis } from 'ioredis'
import { ident, literal } from '../../src/engine/sql-text.ts'
import redis from '../../src/loaders/redis.ts'
import type { DyingProcess } from '../harness/dying-process.ts'
import { fromJson } from '../harness/from-json.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { type Columns, type LoaderFixture, loaderConformance } from './suites/loader.ts'
import { type FaultyStore, type Held, storeFaults } from './suites/store-faults.ts'

type Options = Readonly<Record<string, unknown>>

let copies = 0

/** `tag`: SQL of what stands between the name of the target and the id. */
function hashes(url: string | readonly string[], options: Options, tag = "''"): LoaderFixture<unknown> {
  const all = { url, key: `'a:' || ${tag} || id`, ...options }
  return {
    definition: redis as LoaderFixture<unknown>['definition'],
    type: 'redis',
    bounded: 'nothing',
    options: all,
    other: { ...all, key: `'b:' || ${tag} || id` },
    stepsOf: commandsAsSteps,
    place: (folder) => ({ prefix: `${basename(folder)}:` }),
    rows: ({ prefix, key }, folder, columns) =>
      readBack([url].flat(), `${prefix}${String(key).slice(1, 3)}*`, folder, columns),
  }
}

/** A dead process sends nothing more, and its connections are gone. */
function commandsAsSteps(dying: DyingProcess): () => void {
  const send = Redis.prototype.sendCommand
  Object.assign(Redis.prototype, {
    sendCommand(this: Redis, ...args: Parameters<Redis['sendCommand']>) {
      try {
        dying.step()
      } catch (error) {
        this.disconnect()
        args[0].reject(error as Error)
        return args[0].promise
      }
      return Reflect.apply(send, this, args)
    },
  })
  return () => Object.assign(Redis.prototype, { sendCommand: send })
}

/** The hashes as the servers themselves give them. */
async function readBack(urls: readonly string[], pattern: string, folder: string, columns: Columns): Promise<string> {
  copies += 1
  const file = join(folder, 'spill', `read-back-${copies}.ndjson`)
  const found = new Map<string, string>()
  for (const url of urls) {
    const client = new Redis(url)
    try {
      if ((await client.role())[0] !== 'master') continue
      for await (const keys of client.scanStream({ match: pattern, count: 1000 }))
        await Promise.all(
          (keys as string[]).map(async (key) => found.set(key, JSON.stringify(await client.hgetall(key)))),
        )
    } finally {
      client.disconnect()
    }
  }
  writeFileSync(file, `${[...found.values()].join('\n')}\n`)
  const names = Object.keys(columns)
  const texts = names.map((name) => `${ident(name)}: 'VARCHAR'`).join(', ')
  const values = Object.entries(columns).map(([name, type]) => `${fromJson(ident(name), type)} AS ${ident(name)}`)
  return `SELECT ${values.join(', ')} FROM read_json(${literal(file)}, format = 'newline_delimited', columns = {${texts}})`
}

/** So many counters that none leaves 64 bits. */
const COUNTERS = 500

async function faulty(kind: 'redis' | 'redis-cluster'): Promise<FaultyStore> {
  const server = await startPrivate(kind)
  const urls = server.endpoint.url.split(',')
  const common = { type: 'redis', url: urls, topology: kind === 'redis' ? 'single' : 'cluster' }
  /** What `ask` finds under a pattern of keys, on whichever server. */
  const found = async <T>(pattern: string, ask: (client: Redis, key: string) => Promise<T>): Promise<T[]> => {
    const answers: T[] = []
    for (const url of urls) {
      const client = new Redis(url)
      try {
        if ((await client.role())[0] !== 'master') continue
        answers.push(...(await Promise.all((await client.keys(pattern)).map((key) => ask(client, key)))))
      } finally {
        client.disconnect()
      }
    }
    return answers
  }
  const held = async (place: string): Promise<Record<string, Held>> => {
    const hashes = await found(`${place}:h:*`, (client, key) => client.hmget(key, 'id', 'micros'))
    const streams = await found(`${place}:s`, (client, key) => client.xrange(key, '-', '+'))
    const counts = await found(`${place}:c:*`, (client, key) => client.hmget(key, 'rows', 'micros'))
    const entries = streams.flat().map(([, fields]) => fields)
    const named = (fields: readonly string[], name: string) => fields[fields.indexOf(name) + 1] ?? ''
    const rows = Number(sum(counts.map(([count]) => count ?? '0')))
    return {
      hashes: heldOf(hashes.map(([id, micros]) => ({ id: id ?? '', micros: micros ?? '0' }))),
      entries: heldOf(entries.map((fields) => ({ id: named(fields, 'id'), micros: named(fields, 'micros') }))),
      // A counter knows no ids.
      counters: { rows, ids: rows, micros: sum(counts.map(([, micros]) => micros ?? '0')) },
    }
  }
  return {
    loads: (place) => ({
      hashes: { ...common, prefix: `${place}:`, key: "'h:' || id" },
      entries: { ...common, as: 'stream', prefix: `${place}:`, key: "'s'" },
      counters: {
        ...common,
        as: 'counter',
        prefix: `${place}:`,
        key: `'c:' || id % ${COUNTERS}`,
        increments: { rows: '1', micros: 'micros' },
      },
    }),
    held,
    kill9: () => server.kill9(),
    restart: () => server.restart(),
    end: () => server.end(),
  }
}

function heldOf(rows: readonly { readonly id: string; readonly micros: string }[]): Held {
  const ids = new Set(rows.map(({ id }) => id)).size
  return { rows: rows.length, ids, micros: sum(rows.map(({ micros }) => micros)) }
}

function sum(numbers: readonly string[]): string {
  return String(numbers.reduce((total, number) => total + BigInt(number), 0n))
}

await serverSuite('the loader of Redis', ['redis'], (servers) => {
  loaderConformance('redis hash', hashes(servers.redis.url, {}))
  storeFaults('redis', () => faulty('redis'))
})
await serverSuite('the loader of Redis Cluster', ['redis-cluster'], (servers) => {
  loaderConformance(
    'redis hash in a cluster',
    hashes(servers['redis-cluster'].url.split(','), { topology: 'cluster' }, "'{' || id % 3 || '}'"),
  )
  if (process.env['ADFLOW_TEST_LONG'] === '1') storeFaults('redis-cluster', () => faulty('redis-cluster'))
})
