/**
 * What came of an attempt whose end nobody has heard. The token settles it for as long as the server has not been started again:
 * what is there is dropped, what is missing comes. Two things make a token a bad witness. A server that is killed may have noted the
 * token of a part and not the part (it writes the note first), and then drops what never came. And a table forgets tokens when others
 * have written since. Then the rows are counted by their batch.
 */
import type { LoadBatch } from '../../core/contracts.ts'
import { AdflowError } from '../../core/errors.ts'
import { tokenNumber } from '../../core/token.ts'
import { attachMissing } from './attach.ts'
import type { Blocks, Entry } from './batch-ledger.ts'
import { highestBlocks, rowsOf } from './catalog.ts'
import { labelOf, tableSql } from './ddl.ts'
import { beginBatch, type Insertion, sendAgain, sendWhere } from './insert.ts'
import { ident, literal } from './sql-text.ts'

/** `sure`: a token that a table has is that of a part that it has, and no other. `killed`: there may be tokens without parts.
 *  `forgotten`: there may be parts without tokens. */
type Memory = 'sure' | 'killed' | 'forgotten'

/** Resolved: each row is there once, in the table and behind its views. @throws AdflowError STORE_MISMATCH where nobody can tell */
export async function settleBatch(insertion: Insertion, batch: LoadBatch, begun: Entry): Promise<void> {
  const { encoded, fed } = insertion
  const same = isSame(begun, encoded)
  const memory = await memoryOf(insertion, begun)
  const unresolved = (why: string) => unresolvedBatch(insertion, batch, why)
  if (same && memory === 'sure') {
    await sendAgain(insertion, batch, begun.attempt)
    return verify(insertion, batch)
  }
  const found = await rowsFound(insertion, batch, memory)
  // A table takes all parts of a batch before its views see the first row: where it has nothing, nothing is anywhere.
  if (found === 0) {
    // A server that was not started again may still be at work on the first attempt: only one of the two may land.
    await beginBatch(insertion, batch, begun.attempt + (begun.restarted ? 1 : 0))
    return verify(insertion, batch)
  }
  if (!same) throw unresolved('it was begun with other rows, under other rules')
  const alone = fed.length === 1
  if (alone && found === encoded.written) return
  if (alone && found !== undefined && keepsRows(insertion)) {
    await sendWhere(insertion, batch, missing(insertion, batch))
    return verify(insertion, batch)
  }
  if (memory === 'forgotten') throw unresolved('its tables have taken more blocks since than they remember')
  const before = await highestBlocks(insertion.clickhouse, fed)
  await sendAgain(insertion, batch, begun.attempt)
  const part = await rowsFound(insertion, batch, memory)
  if (keepsRows(insertion) && part !== undefined && part < encoded.written)
    await attachMissing(insertion, batch, rowsOfBatch(insertion, batch))
  await verify(insertion, batch)
  const after = await highestBlocks(insertion.clickhouse, fed)
  const silent = fed
    .slice(1)
    .map(labelOf)
    .find((name) => after[name] === begun.blocks[name] && before[name] === after[name])
  if (silent !== undefined) throw unresolved(`${silent} has taken nothing of it`)
}

/** @throws AdflowError STORE_MISMATCH where the rows of the table are not those of the batch */
async function verify(insertion: Insertion, batch: LoadBatch): Promise<void> {
  const found = keepsRows(insertion) ? await rowsFound(insertion, batch, 'sure') : undefined
  const { written } = insertion.encoded
  if (found !== undefined && found !== written)
    throw unresolvedBatch(insertion, batch, `${found} of its ${written} rows are there`)
}

/** undefined where it cannot be told. */
async function rowsFound(insertion: Insertion, batch: LoadBatch, memory: Memory): Promise<number | undefined> {
  const { batchColumn, clickhouse, fed } = insertion
  if (batchColumn === undefined || fed[0].hasTtl || (memory === 'forgotten' && !keepsRows(insertion))) return undefined
  return rowsOf(clickhouse, fed[0], rowsOfBatch(insertion, batch))
}

/** Whose rows stay as they came: those of other engines go when they are merged. */
function keepsRows({ fed }: Insertion): boolean {
  return /^(?:Replicated|Shared)?MergeTree$/.test(fed[0].engine)
}

/** Of the rows that belong into partitions that have nothing of the batch: each has all of its part, or nothing. */
function missing(insertion: Insertion, batch: LoadBatch): string {
  const [target] = insertion.fed
  const { partitionKey } = target
  const place = partitionKey === '' ? "'all'" : `toString(tuple(${partitionKey}))`
  const present = `SELECT groupUniqArray(${place}) FROM ${tableSql(target)} WHERE ${rowsOfBatch(insertion, batch)}`
  return `NOT has((${present}), ${place})`
}

function rowsOfBatch({ batchColumn = '' }: Insertion, { token }: LoadBatch): string {
  return `${ident(batchColumn)} = ${tokenNumber(token)}`
}

/** Of the same rows, as far as the two can be compared: not where they are told apart by hashes of two versions of the engine, or once by hashes and
 *  once by what they follow from. */
function isSame(begun: Entry, { content, rows }: Insertion['encoded']): boolean {
  const [kind] = content.split(' ')
  return begun.content.startsWith(`${kind} `) ? begun.content === content : begun.rows === rows
}

async function memoryOf(
  { clickhouse, fed, ledger }: Insertion,
  { ageSeconds, blocks, restarted }: Entry,
): Promise<Memory> {
  const [now, highest] = [await highestBlocks(clickhouse, fed), await ledger.highest()]
  const since = (name: string) => Math.max(of(now, name), of(highest, name)) - of(blocks, name)
  const forgets = fed.some(
    (table) => since(labelOf(table)) >= table.window || ageSeconds >= (table.windowSeconds ?? Number.POSITIVE_INFINITY),
  )
  if (forgets) return 'forgotten'
  return restarted ? 'killed' : 'sure'
}

function of(blocks: Blocks, name: string): number {
  return blocks[name] ?? 0
}

function unresolvedBatch({ fed, ledger }: Insertion, { token }: LoadBatch, why: string): AdflowError {
  const where = `target = ${literal(labelOf(fed[0]))} AND token = ${literal(token)}`
  const table = tableSql(ledger.name)
  const tables = fed.map(labelOf).join(', ')
  const note = (state: 'written' | 'void') =>
    `INSERT INTO ${table} SELECT * REPLACE ('${state}' AS state, now64(6) AS at) FROM ${table} WHERE ${where} ORDER BY at DESC LIMIT 1`
  return new AdflowError(
    'STORE_MISMATCH',
    `nobody knows what ${tables} ${fed.length > 1 ? 'have' : 'has'} of batch ${token.slice(0, 12)}: ${why}`,
    {
      hint: `look (its number is ${tokenNumber(token)}). All there: ${note('written')}. Nothing there: ${note('void')}`,
    },
  )
}
