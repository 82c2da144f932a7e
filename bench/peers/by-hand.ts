/** The work of bench/files.ts written by hand in DuckDB SQL: `by-hand.ts hand|hand_rejects <data> <out>`. */
import { cpus } from 'node:os'
import { DuckDBInstance } from '@duckdb/node-api'

const [how, data, out] = process.argv.slice(2)
const instance = await DuckDBInstance.create(':memory:', {
  threads: String(cpus().length),
  memory_limit: '512MB',
  temp_directory: `${out}/temp`,
})
const connection = await instance.connect()

const NAMES = [
  'event_id',
  'event_type',
  'event_time',
  'received_at',
  'campaign_id',
  'crid',
  'impid',
  'publisher',
  'user_id',
  'ip',
  'os',
  'country',
  'city',
  'cost_micros',
]
const TYPES: Readonly<Record<string, string>> = {
  event_id: 'BIGINT',
  campaign_id: 'BIGINT',
  cost_micros: 'BIGINT',
  event_time: 'TIMESTAMP',
  received_at: 'TIMESTAMP',
}
const RULES = `event_type IN ('impression', 'click', 'conversion') AND cost_micros BETWEEN 0 AND 50000000
  AND event_time >= received_at - INTERVAL 6 HOURS AND event_time <= received_at + INTERVAL 5 MINUTES
  AND event_id IS NOT NULL AND event_type IS NOT NULL AND campaign_id IS NOT NULL`
const DERIVED = "*, cost_micros / 1000000::DECIMAL(18, 6) AS spend, date_trunc('hour', event_time) AS hour"

if (how === 'hand') {
  const columns = NAMES.map((name) => `${name}: '${TYPES[name] ?? 'VARCHAR'}'`).join(', ')
  const read = `read_json('${data}/events-*.ndjson', format = 'newline_delimited', columns = {${columns}})`
  await connection.run(
    `COPY (SELECT ${DERIVED} FROM ${read} WHERE ${RULES}) TO '${out}/good.parquet' (FORMAT parquet, COMPRESSION snappy)`,
  )
} else {
  // Malformed lines and wrong types must not stop the load: lines are read as JSON, each field is tried.
  const raw = `read_ndjson_objects('${data}/events-*.ndjson', ignore_errors = true)`
  const structure = `{${NAMES.map((name) => `"${name}": "VARCHAR"`).join(', ')}}`
  const tried = NAMES.map((name) =>
    TYPES[name] === undefined ? `r.${name} AS ${name}` : `TRY_CAST(r.${name} AS ${TYPES[name]}) AS ${name}`,
  )
  await connection.run(`CREATE TABLE staged AS SELECT ${tried.join(', ')}, CASE WHEN r IS NULL OR cost_micros IS NULL OR NOT coalesce(${RULES}, false) THEN json::VARCHAR END AS rejected
    FROM (SELECT json, json_transform(json, '${structure}') AS r FROM ${raw})`)
  await connection.run(
    `COPY (SELECT ${DERIVED.replace('*', '* EXCLUDE (rejected)')} FROM staged WHERE rejected IS NULL AND event_id IS NOT NULL) TO '${out}/good.parquet' (FORMAT parquet, COMPRESSION snappy)`,
  )
  await connection.run(
    `COPY (SELECT rejected FROM staged WHERE rejected IS NOT NULL OR event_id IS NULL) TO '${out}/rejected.parquet' (FORMAT parquet)`,
  )
}
connection.closeSync()
instance.closeSync()
