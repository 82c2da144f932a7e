/** A job over four small sources with defects of every kind, for tests of the stages of a pipe. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { duckdbRows } from './engine.ts'

export const STAGE_JOB = `version: 1
name: clicks
extract:
  lines: { type: files, path: "in/a.ndjson", settle: 0s }
  array: { type: files, path: "in/b.json", settle: 0s }
  table: { type: files, path: "in/c.csv", settle: 0s }
  columns: { type: files, path: "in/d.parquet" }
contract:
  columns:
    id: { type: bigint, required: true }
    ts: { type: timestamp, from: time.at }
    seen: { type: timestamptz, format: epoch_ms }
    amount: decimal(38,18)
    device: { type: "struct(os varchar, v bigint[])", from: dev }
    name: varchar
    kind: varchar
    score: double
distribute:
  partner: { type: files, path: partner, format: csv, where: "twice > 2" }
validate:
  - { id: known_kind, check: "kind in ('click', 'view')" }
  - { id: no_zero, check: "id <> 0", on_fail: drop }
transform:
  - dedupe: { key: [id] }
  - derive: { twice: "id * 2::hugeint", day: "ts::date", spent: "map {'sum': amount}" }
  - filter: "name <> 'nobody' or name is null"
load:
  store: { type: duckdb, path: "\${WAREHOUSE:-run.duckdb}", table: clicks }
`

export const LINES = [
  '{"id":9007199254740993,"time":{"at":"2024-01-02T03:04:05.123456Z"},"seen":1704164645123.456,"amount":"12345678901234567890.123456789012345678","dev":{"os":"ios","v":[1,9007199254740993]},"name":"Žofie 😀","kind":"click","score":1.5}',
  '{"id":2,"time":{"at":"soon"},"kind":"click"}',
  'not json',
  '{"id":3,"kind":"click","score":"nan","name":null}',
  '{"id":3,"kind":"click","score":"nan"}',
  '{"id":4,"kind":"other"}',
  '{"id":0,"kind":"click"}',
  '{"id":5,"kind":"view","name":"nobody"}',
  '{"kind":"view"}',
  '{"id":6,"kind":"view","score":-0.0,"amount":0.1,"unknown":{"x":1}}',
]

const CSV = `id,TIME.at,amount,dev,name,kind,extra
11,2024-01-02 03:04:05,1.5,"{""os"":""a"",""v"":[9]}","",click,x
12,2024-01-02 03:04:05,1.5,,,click,x,one too many
13,,0.000000000000000001,,"two
lines",view,
`

/** Writes clicks.yaml and its sources. */
export async function writeStageJob(folder: string): Promise<void> {
  mkdirSync(join(folder, 'in'))
  writeFileSync(join(folder, 'clicks.yaml'), STAGE_JOB)
  writeFileSync(join(folder, 'in/a.ndjson'), `${LINES.join('\n')}\n`)
  writeFileSync(
    join(folder, 'in/b.json'),
    '[\n  { "id": 21,\n    "kind": "click" },\n  {"id": 22, "kind": "view"}\n]\n',
  )
  writeFileSync(join(folder, 'in/c.csv'), CSV)
  await duckdbRows('SELECT 1', [
    `COPY (SELECT (range + 9007199254741000)::BIGINT AS id, TIMESTAMPTZ '2024-01-01 00:00:00.000001+05' AS seen,
      '1.5'::DECIMAL(38, 18) AS amount, {'os': 'p', 'v': [1::BIGINT, NULL]} AS dev, 'n' || range AS name,
      CASE range WHEN 2 THEN 'other' ELSE 'click' END AS kind, '-inf'::DOUBLE AS score, 5 AS extra
      FROM range(4)) TO '${join(folder, 'in/d.parquet')}'`,
  ])
}
