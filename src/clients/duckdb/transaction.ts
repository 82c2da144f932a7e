/** Transactions on an attached DuckDB file. DuckDB lets a transaction write to one attached file only. */
import pLimit, { type LimitFunction } from 'p-limit'
import type { EngineConnection } from '../../core/contracts.ts'

/** Commits what `work` has done, or none of it. The connection must not be inside a transaction already. */
export async function transaction<T>(engine: EngineConnection, work: () => Promise<T>): Promise<T> {
  await engine.run('BEGIN TRANSACTION')
  try {
    const result = await work()
    await engine.run('COMMIT')
    return result
  } catch (error) {
    await engine.run('ROLLBACK').catch(() => undefined) // a failed COMMIT has ended it already
    throw error
  }
}

const turns = new Map<string, LimitFunction>()

/** One writer at a time per attached file: of two transactions that alter or merge into one table DuckDB ends one with a
 *  conflict, and a batch is written by all threads anyway. */
export function turnsOf(database: string): LimitFunction {
  const known = turns.get(database)
  if (known !== undefined) return known
  const made = pLimit(1)
  turns.set(database, made)
  return made
}
