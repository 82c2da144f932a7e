/** Four sessions that change a table `t (id, writer, n, updated_at)` at the same time: they insert and update, commit out of order, and roll back. */
import { Client } from 'pg'

const WRITERS = 4
const SEED = 20261126

/** Runs `meanwhile` again and again until so many changes are committed. @returns changes committed */
export async function writersAtWork(url: string, changes: number, meanwhile: () => Promise<void>): Promise<number> {
  const done: boolean[] = []
  const work = Promise.all(
    Array.from({ length: WRITERS }, (_, writer) =>
      write(url, writer, Math.ceil(changes / WRITERS)).finally(() => {
        done.push(true)
      }),
    ),
  )
  work.catch(() => undefined) // awaited below
  do await meanwhile()
  while (done.length < WRITERS)
  return (await work).reduce((sum, count) => sum + count, 0)
}

async function write(url: string, writer: number, changes: number): Promise<number> {
  const client = new Client({ connectionString: url })
  await client.connect()
  const random = randomOf(SEED + writer)
  let committed = 0
  try {
    while (committed < changes) {
      // Long and short ones: the later to begin is often the first to commit.
      const size = random() < 0.1 ? 200 : 1 + Math.floor(random() * 20)
      const dies = random() < 0.2
      let count = 0
      await client.query('BEGIN')
      for (let left = size; left > 0; ) {
        const step = Math.min(left, 1 + Math.floor(random() * 10))
        left -= step
        count += await change(client, writer, step, random())
      }
      await client.query(dies ? 'ROLLBACK' : 'COMMIT')
      if (!dies) committed += count
    }
  } finally {
    await client.end()
  }
  return committed
}

/** Each writer changes rows of its own only: they never wait for each other. */
async function change(client: Client, writer: number, rows: number, dice: number): Promise<number> {
  const mine = `SELECT id FROM t WHERE writer = ${writer} ORDER BY id DESC LIMIT ${rows}`
  if (dice < 0.6) {
    await client.query(`INSERT INTO t (writer, n) SELECT ${writer}, n FROM generate_series(1, ${rows}) n`)
    return rows
  }
  // A row of a subtransaction has a number of its own, too.
  await client.query('SAVEPOINT s')
  const result = await client.query(`UPDATE t SET n = n + 1, updated_at = clock_timestamp() WHERE id IN (${mine})`)
  await client.query(dice < 0.7 ? 'ROLLBACK TO s' : 'RELEASE s')
  return dice < 0.7 ? 0 : (result.rowCount ?? 0)
}

/** mulberry32 */
function randomOf(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296
  }
}
