/** What the numbers of the rows of a batch add up to, by their hashes: the engine hashes them for the books of each batch that it does not have in a table. */
import { version } from '@duckdb/node-api'
import { SUMS, VERSION } from './known-sums.ts'
import type { Session } from './session.ts'

/** Rows between two sums that are written down (`npm run generate`). */
const EVERY_ROWS = 1_000_000
/** More rows than a whole file has. */
const MOST_ROWS = 24_000_000

/** Of the rows numbered from 0 on. An engine of another version may hash otherwise: it is asked for all of them. */
export async function sumOfRows(session: Session, rows: number): Promise<string> {
  const known = version() === VERSION ? Math.min(Math.floor(rows / EVERY_ROWS), SUMS.length) : 0
  const rest = await sumOf(session, known * EVERY_ROWS, rows)
  return String(BigInt(SUMS[known - 1] ?? 0) + rest)
}

async function sumOf(session: Session, from: number, to: number): Promise<bigint> {
  return BigInt(
    String(await session.value(`SELECT coalesce(sum(hash(range)), 0)::HUGEINT AS s FROM range(${from}, ${to})`)),
  )
}

/** Text of known-sums.ts. */
export async function sumsModule(session: Session): Promise<string> {
  const sums: string[] = []
  for (let rows = EVERY_ROWS, sum = 0n; rows <= MOST_ROWS; rows += EVERY_ROWS) {
    sum += await sumOf(session, rows - EVERY_ROWS, rows)
    sums.push(String(sum))
  }
  return `/** Written by \`npm run generate\`: see row-sums.ts. */
export const VERSION = '${version()}'
export const SUMS = [
${sums.map((sum) => `  '${sum}',`).join('\n')}
]
`
}
