/** Both sides joined in full by hand: `node full-join.ts source|stores FOLDER`; `make` and `tamper` prepare what is compared. */
import { join } from 'node:path'
import { DuckDBInstance } from '@duckdb/node-api'

const [what = '', argument = ''] = process.argv.slice(2)
const COLUMNS = ['seen', 'kind', 'publisher', 'cost', 'spend']

const instance = await DuckDBInstance.create(':memory:', { memory_limit: '512MB', temp_directory: '.spill' })
const connection = await instance.connect()

if (what === 'make')
  await connection.run(
    `COPY (SELECT i AS id, timestamp '2026-03-01' + to_microseconds(i * 100000) AS seen, ['view', 'click'][1 + i % 2] AS kind, 'publisher ' || i % 997 AS publisher, i % 5000 AS cost FROM range(${argument}) t(i)) TO 'data/events.ndjson' (FORMAT json)`,
  )
else if (what === 'tamper') {
  const at = (part: number) => Math.floor(Number(argument) * part)
  await connection.run(`ATTACH 'bad.duckdb' AS bad`)
  await connection.run(`DELETE FROM bad.events WHERE id IN (${at(0.1)}, ${at(0.8)})`)
  await connection.run(`UPDATE bad.events SET spend = spend + 0.000001 WHERE id = ${at(0.3)}`)
  await connection.run(`INSERT INTO bad.events SELECT * FROM bad.events WHERE id IN (${at(0.5)}, ${at(0.8) + 1})`)
} else {
  await connection.run(`ATTACH '${join(argument, 'bad.duckdb')}' AS bad (READ_ONLY)`)
  await connection.run(`ATTACH '${join(argument, 'good.duckdb')}' AS good (READ_ONLY)`)
  const types = `{id: 'BIGINT', seen: 'TIMESTAMP', kind: 'VARCHAR', publisher: 'VARCHAR', cost: 'BIGINT'}`
  const left =
    what === 'stores'
      ? 'good.events'
      : `(SELECT *, cost::DECIMAL(18, 0) * 0.000001 AS spend FROM read_json('${join(argument, 'data', '*.ndjson')}', format = 'newline_delimited', columns = ${types}) WHERE cost >= 0)`
  const differs = COLUMNS.map((name) => `l.${name} IS DISTINCT FROM r.${name}`).join(' OR ')
  const rows = await connection.runAndReadAll(
    `SELECT coalesce(l.id, r.id) AS id FROM ${left} l FULL JOIN bad.events r ON l.id = r.id WHERE l.id IS NULL OR r.id IS NULL OR ${differs}`,
  )
  if (rows.getRows().length !== 3) throw new Error(`found ${rows.getRows().length} rows that differ, not 3`)
}
connection.closeSync()
instance.closeSync()
