/** Loaded before the CLI (`node --import`): the first statement that writes a batch into a file never returns, in a thread of the engine. */
import { createRequire } from 'node:module'

const ENDLESS = 'SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE (a.range * b.range) % 7 = 3'

// What is above the addon is a part of the program, and the addon itself cannot be changed: another object stands in for it.
const require = createRequire(createRequire(import.meta.url).resolve('@duckdb/node-api'))
const ADDON = '@duckdb/node-bindings'
const addon: { query(connection: unknown, sql: string): Promise<unknown> } = require(ADDON)
const loaded = require.cache[require.resolve(ADDON)]
let hung = false

const query = (connection: unknown, sql: string) => {
  const hangs = !hung && /^\s*COPY /i.test(sql)
  hung ||= hangs
  return addon.query(connection, hangs ? ENDLESS : sql)
}
if (loaded === undefined) throw new Error('the addon of the engine is not where it was')
loaded.exports = Object.create(addon, { query: { value: query } })
