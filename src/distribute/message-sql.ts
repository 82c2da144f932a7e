/** From the rows of a batch to messages, by SQL: a COPY for many rows at a time. */
import { createReadStream, createWriteStream } from 'node:fs'
import { rm } from 'node:fs/promises'
import { pipeline } from 'node:stream/promises'
import type { MessageConsumer } from '../core/consumer.ts'
import { temporaryPath } from '../core/durable.ts'
import { localIoError } from '../core/errors.ts'
import type { JobConsumer } from '../core/job/job.ts'
import { exactJson } from '../engine/exact-json.ts'
import type { Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'
import { resolveType } from '../engine/types.ts'
import { selected, whereSql } from '../runtime/consumer-rows.ts'
import { FILE_ROW, type OutboxFile } from '../runtime/outbox.ts'

const TOKEN_DIGITS = 32
const KEY = '__key'
const ROWS = 'message_rows'
/** What is held of a batch in memory at a time. */
const SLICE_BYTES = 8_000_000
const MOST_ROWS = 20_000
/** How much larger rows are as JSON than as compressed Parquet, at a guess. */
const COMPRESSED = 10

/** Writes the messages of the batch to `target`, a line each. `rows` is SQL of its rows. */
export async function messagesSql(
  file: OutboxFile,
  rows: string,
  config: JobConsumer,
  consumer: MessageConsumer,
  session: Session,
  target: string,
): Promise<{ readonly messages: number; readonly rows: number }> {
  await session.run(`CREATE OR REPLACE TEMP MACRO now() AS TIMESTAMPTZ ${literal(file.clock)}`)
  const key = config.key === undefined ? 'NULL' : `(${config.key.sql}\n)`
  const items = selected(config, file.columns).map(({ name, sql }) => `${sql} AS ${ident(name)}`)
  await session.run(
    `CREATE OR REPLACE TEMP VIEW ${ROWS} AS SELECT ${FILE_ROW}, CAST(${key} AS VARCHAR) AS ${KEY}, ${items.join(', ')} FROM (${rows}) AS batch${whereSql(config)}`,
  )
  const id = `${config.id}_${file.token.slice(0, TOKEN_DIGITS)}_`
  const event = consumer.event({
    id: `${literal(id)} || ${FILE_ROW}`,
    data: await exactStruct(session),
    time: literal(file.clock),
    ...(config.key === undefined ? {} : { key: KEY }),
  })
  const slices = await slicesOf(session, sliceRows(file, consumer))
  const part = temporaryPath(target)
  let messages = 0
  for (const slice of slices) {
    const events = `SELECT ${FILE_ROW} AS r, ${KEY} AS k, to_json(${event})::VARCHAR AS e FROM ${ROWS} WHERE ${slice}`
    const made = consumer.batch.rows === 1 ? singles(events, id) : groups(events, id, consumer)
    const select = `SELECT ${messages} + row_number() OVER (ORDER BY first) - 1 AS i, * EXCLUDE (first) FROM (${made}) ORDER BY first`
    messages += Number(await session.value(`COPY (${select}) TO ${literal(part)} (FORMAT json)`))
    await appendFile(part, target)
  }
  return { messages, rows: Number(await session.value(`SELECT count(*) FROM ${ROWS}`)) }
}

/** Rows that are made into messages at a time: whole messages, of about SLICE_BYTES. */
function sliceRows({ rows, bytes }: OutboxFile, { batch }: MessageConsumer): number {
  const perRow = Math.max(1, (bytes / Math.max(1, rows)) * COMPRESSED)
  const wanted = Math.min(MOST_ROWS, Math.ceil(SLICE_BYTES / perRow))
  return batch.rows * Math.ceil(wanted / batch.rows)
}

/** Conditions on FILE_ROW, each for so many of the rows that `where` keeps; so which rows share a message does not depend
 *  on the slices. None where there are no rows. */
async function slicesOf(session: Session, rows: number): Promise<readonly string[]> {
  const numbered = `SELECT ${FILE_ROW} AS r, row_number() OVER () - 1 AS n FROM ${ROWS}`
  const found = await session.rows(`SELECT r::BIGINT AS r FROM (${numbered}) WHERE n % ${rows} = 0 ORDER BY r`)
  const starts = found.map(({ r }) => String(r))
  return starts.map((start, index) => {
    const next = starts[index + 1]
    return `${FILE_ROW} >= ${start}${next === undefined ? '' : ` AND ${FILE_ROW} < ${next}`}`
  })
}

async function appendFile(part: string, target: string): Promise<void> {
  try {
    await pipeline(createReadStream(part), createWriteStream(target, { flags: 'a' }))
    await rm(part)
  } catch (error) {
    throw localIoError(error, `append ${part} to ${target}`)
  }
}

/** SQL of a struct of what is selected, whose JSON is exact. */
async function exactStruct(session: Session): Promise<string> {
  const columns = await session.describe(`SELECT * EXCLUDE (${FILE_ROW}, ${KEY}) FROM ${ROWS}`)
  const fields: string[] = []
  for (const { name, type } of columns)
    fields.push(`${ident(name)} := ${exactJson(await resolveType(session, type), ident(name))}`)
  return `struct_pack(${fields.join(', ')})`
}

function singles(events: string, id: string): string {
  return `SELECT r AS first, ${literal(id)} || r AS id, CASE WHEN k IS NULL THEN [] ELSE [k] END AS keys, 1 AS "rows", e AS body FROM (${events})`
}

/** Rows in order, up to so many and about so many bytes: a message is closed by the row with which it reaches them. */
function groups(events: string, id: string, { batch, body }: MessageConsumer): string {
  const [open, between, close] = body === 'lines' ? ['', '\n', '\n'] : ['[', ',', ']']
  const numbered = `SELECT *, row_number() OVER (ORDER BY r) - 1 AS n FROM (${events})`
  const byRows = `SELECT *, n // ${batch.rows} AS part FROM (${numbered})`
  const byBytes = `SELECT *, (sum(strlen(e)) OVER (PARTITION BY part ORDER BY n) - strlen(e)) // ${batch.bytes} AS piece FROM (${byRows})`
  return `SELECT min(r) AS first, ${literal(id)} || min(r) || '-' || max(r) AS id,
    coalesce(list_sort(list(DISTINCT k) FILTER (WHERE k IS NOT NULL)), []) AS keys, count(*) AS "rows",
    ${literal(open)} || string_agg(e, ${literal(between)} ORDER BY n) || ${literal(close)} AS body
    FROM (${byBytes}) GROUP BY part, piece`
}
