/**
 * Sessions of adflow that stand still in the middle of a batch, as those of a process that was stopped, or whose machine is asleep: the
 * server keeps what they have locked for as long as a statement may take. Whoever goes on with the batch ends them; to be ended costs a
 * live one its attempt, no more.
 */
import type { PoolClient } from 'pg'
import type { Postgres } from './connect.ts'

/** Between two looks, in which a session must have done nothing. */
const LOOK_MS = 3000

/** Sessions that hold up $1, and how far each has come. */
const HOLDING = `SELECT a.pid, concat_ws(' ', a.backend_start, a.query_start, p.bytes_processed) AS come
FROM unnest(pg_blocking_pids($1)) AS b(pid) JOIN pg_stat_activity a ON a.pid = b.pid LEFT JOIN pg_stat_progress_copy p ON p.pid = a.pid
WHERE a.application_name = 'adflow' AND a.wait_event = 'ClientRead'`

interface Holding {
  readonly pid: number
  readonly come: string
}

/** `work`, of which each statement of `client` that waits for a lock waits for no session that stands still. */
export async function pastStanding<T>(postgres: Postgres, client: PoolClient, work: () => Promise<T>): Promise<T> {
  const { processID } = client as { readonly processID?: number }
  let seen = new Map<number, string>()
  const look = async (other: PoolClient) => {
    const { rows } = await other.query<Holding>(HOLDING, [processID])
    const standing = rows.filter(({ pid, come }) => seen.get(pid) === come)
    seen = new Map(rows.map(({ pid, come }) => [pid, come]))
    for (const { pid } of standing) await other.query('SELECT pg_terminate_backend($1)', [pid])
  }
  let looking = false
  const timer = setInterval(async () => {
    if (looking) return
    looking = true
    // Where nobody may look, or has a connection for it, the lock is waited for as any other.
    await postgres.with('look for what holds a batch up', look).catch(() => undefined)
    looking = false
  }, LOOK_MS)
  try {
    return await work()
  } finally {
    clearInterval(timer)
  }
}
