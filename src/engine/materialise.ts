/** Relations of a batch are SQL that is evaluated where it is read; who reads one several times must not parse it as often. */
import type { EngineConnection } from '../core/contracts.ts'

/** Several stores may do this at the same time, on one connection. */
let tables = 0

/** Calls `work` with a relation of the same rows, in the same order, that costs nothing to read again. Not inside a
 *  transaction that writes to an attached file. */
export async function readSeveralTimes<T>(
  engine: EngineConnection,
  relation: string,
  work: (relation: string) => Promise<T>,
): Promise<T> {
  if (!relation.startsWith('(')) return work(relation)
  tables += 1
  const table = `__adflow_batch_${tables}`
  await engine.run(`CREATE TEMP TABLE ${table} AS SELECT * FROM ${relation} AS batch`)
  try {
    return await work(`temp.main.${table}`)
  } finally {
    // After a fatal error of the engine this fails too, and would hide the first error.
    await engine.run(`DROP TABLE IF EXISTS temp.main.${table}`).catch(() => undefined)
  }
}
