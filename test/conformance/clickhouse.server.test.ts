import { createWriteStream } from 'node:fs'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { ClickHouseClient, createClient } from '@clickhouse/client'
import { ident } from '../../src/clients/clickhouse/sql-text.ts'
import { literal, ident as named } from '../../src/engine/sql-text.ts'
import clickhouse from '../../src/loaders/clickhouse.ts'
import type { DyingProcess } from '../harness/dying-process.ts'
import { fromJson } from '../harness/from-json.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { type Columns, type LoaderFixture, loaderConformance } from './suites/loader.ts'
import { type FaultyStore, type Held, storeFaults } from './suites/store-faults.ts'

type Options = Readonly<Record<string, unknown>>

let copies = 0

function table(url: string, options: Options, fixture: Partial<LoaderFixture<unknown>> = {}): LoaderFixture<unknown> {
  return {
    definition: clickhouse as LoaderFixture<unknown>['definition'],
    type: 'clickhouse',
    bounded: 'batches',
    options: { url, table: 'events', ...options },
    other: { url, table: 'other', ...options },
    stepsOf: requestsAsSteps,
    place: (folder) => ({ url: `${url}/${encodeURIComponent(basename(folder))}` }),
    rows: (target, folder, columns) => copied(String(target['url']), target, folder, columns),
    ...fixture,
  }
}

/** A dead process sends nothing more. */
function requestsAsSteps(dying: DyingProcess): () => void {
  const prototype = ClickHouseClient.prototype as unknown as Record<string, (...args: unknown[]) => unknown>
  const originals = ['command', 'exec', 'query'].map((name) => [name, prototype[name]] as const)
  for (const [name, original] of originals)
    prototype[name] = async function (this: unknown, ...args: unknown[]) {
      dying.step()
      return Reflect.apply(original as () => unknown, this, args)
    }
  return () => Object.assign(prototype, Object.fromEntries(originals))
}

/** The table as the server itself writes it out, in Parquet; numbers that Parquet has no type for as text. */
async function copied(url: string, { table: from, write }: Options, folder: string, columns: Columns): Promise<string> {
  copies += 1
  const file = join(folder, 'spill', `copied-${copies}.parquet`)
  const client = createClient({ url })
  try {
    const items = Object.entries(columns).map(([name, type]) =>
      type === 'HUGEINT' ? `toString(${ident(name)}) AS ${ident(name)}` : ident(name),
    )
    const { stream } = await client.exec({
      query: `SELECT ${items.join(', ')} FROM ${ident(String(from))}${write === 'merge' ? ' FINAL' : ''} FORMAT Parquet`,
      clickhouse_settings: { output_format_parquet_string_as_string: 1, wait_end_of_query: 1 },
    })
    await pipeline(stream, createWriteStream(file))
  } finally {
    await client.close()
  }
  const values = Object.entries(columns).map(([name, type]) => `${fromJson(named(name), type)} AS ${named(name)}`)
  return `SELECT ${values.join(', ')} FROM read_parquet(${literal(file)})`
}

async function faulty(): Promise<FaultyStore> {
  const server = await startPrivate('clickhouse')
  const { url } = server.endpoint
  const held = async (from: string, rows = 'count()'): Promise<Held> => {
    const client = createClient({ url })
    try {
      const answer = await client.query({
        query: `SELECT toUInt32(${rows}) AS rows, toUInt32(uniqExact(id)) AS ids, toString(sum(toInt128(micros))) AS micros FROM ${from}`,
        format: 'JSONEachRow',
      })
      const [row] = await answer.json<Held>()
      return row as Held
    } finally {
      await client.close()
    }
  }
  const view = (place: string) => ({
    name: `${place}_view`,
    to: `${place}_sums`,
    query: 'SELECT assumeNotNull(id) AS id, count() AS n, sum(micros) AS micros FROM {table} GROUP BY id',
    engine: 'SummingMergeTree',
    order_by: ['id'],
  })
  return {
    loads: (place) => ({
      appended: { type: 'clickhouse', url, table: place, partition_by: 'n % 3', materialized_views: [view(place)] },
      merged: { type: 'clickhouse', url, table: `${place}_merged`, write: 'merge', key: ['id'] },
    }),
    held: async (place) => ({
      appended: await held(place),
      summed: await held(`${place}_sums`, 'sum(n)'),
      merged: await held(`${place}_merged FINAL`),
    }),
    kill9: () => server.kill9(),
    restart: () => server.restart(),
    end: () => server.end(),
  }
}

/** A Date32 ends in 2299. */
const refused = { day: ["'9999-12-31'"] }

await serverSuite('the loader of ClickHouse', ['clickhouse'], ({ clickhouse: { url } }) => {
  loaderConformance('clickhouse append', table(url, {}, { refused }))
  loaderConformance('clickhouse merge', table(url, { write: 'merge', key: ['id'] }, { refused }))
  storeFaults('clickhouse', faulty)
})
