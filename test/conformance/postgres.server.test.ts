import { createWriteStream } from 'node:fs'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { Client } from 'pg'
import { to } from 'pg-copy-streams'
import { ident, literal } from '../../src/engine/sql-text.ts'
import postgres from '../../src/loaders/postgres.ts'
import type { DyingProcess } from '../harness/dying-process.ts'
import { fromJson } from '../harness/from-json.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { type Columns, type LoaderFixture, loaderConformance } from './suites/loader.ts'
import { type FaultyStore, type Held, storeFaults } from './suites/store-faults.ts'

type Options = Readonly<Record<string, unknown>>

let copies = 0

function table(url: string, options: Options): LoaderFixture<unknown> {
  return {
    definition: postgres as LoaderFixture<unknown>['definition'],
    type: 'postgres',
    bounded: 'batches',
    options: { url, table: 'events', ...options },
    other: { url, table: 'other', ...options },
    stepsOf: queriesAsSteps,
    place: (folder) => ({ schema: basename(folder) }),
    rows: ({ schema, table: name }, folder, columns) =>
      copied(url, `${ident(String(schema))}.${ident(String(name))}`, folder, columns),
  }
}

/** A dead process sends nothing more, and its connections are gone. */
function queriesAsSteps(dying: DyingProcess): () => void {
  const query = Client.prototype.query as (...args: unknown[]) => unknown
  Object.assign(Client.prototype, {
    query(this: Client & { connection: { stream: { destroy(): void } } }, ...args: unknown[]) {
      try {
        dying.step()
      } catch (error) {
        this.connection.stream.destroy()
        throw error
      }
      return Reflect.apply(query, this, args)
    },
  })
  return () => Object.assign(Client.prototype, { query })
}

/** The table as the server itself writes it out. */
async function copied(url: string, from: string, folder: string, columns: Columns): Promise<string> {
  copies += 1
  const file = join(folder, 'spill', `copied-${copies}.csv`)
  const client = new Client({ connectionString: url })
  await client.connect()
  try {
    const names = Object.keys(columns).map(ident).join(', ')
    await pipeline(
      client.query(to(`COPY (SELECT ${names} FROM ${from}) TO STDOUT WITH (FORMAT csv, HEADER true)`)),
      createWriteStream(file),
    )
  } finally {
    await client.end()
  }
  const values = Object.entries(columns).map(([name, type]) => `${fromJson(ident(name), type)} AS ${ident(name)}`)
  return `SELECT ${values.join(', ')} FROM read_csv(${literal(file)}, header = true, all_varchar = true, allow_quoted_nulls = false, delim = ',', quote = '"', escape = '"', comment = '')`
}

async function faulty(): Promise<FaultyStore> {
  const server = await startPrivate('postgres')
  const { url } = server.endpoint
  const held = async (table: string): Promise<Held> => {
    const client = new Client({ connectionString: url })
    await client.connect()
    try {
      const { rows } = await client.query<Held>(
        `SELECT count(*)::int AS rows, count(DISTINCT id)::int AS ids, sum(micros)::text AS micros FROM ${ident(table)}`,
      )
      return rows[0] as Held
    } finally {
      await client.end()
    }
  }
  return {
    loads: (place) => ({
      appended: { type: 'postgres', url, table: place },
      merged: { type: 'postgres', url, table: `${place}_merged`, write: 'merge', key: ['id'] },
    }),
    held: async (place) => ({ appended: await held(place), merged: await held(`${place}_merged`) }),
    kill9: () => server.kill9(),
    restart: () => server.restart(),
    end: () => server.end(),
  }
}

await serverSuite('the loader of PostgreSQL', ['postgres'], ({ postgres: { url } }) => {
  loaderConformance('postgres append', table(url, {}))
  loaderConformance('postgres merge', table(url, { write: 'merge', key: ['id'] }))
  storeFaults('postgres', faulty)
})
