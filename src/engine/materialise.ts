/** Relations of a batch are SQL that is evaluated where it is read; who reads one several times must not parse it as often. */
import type { EngineConnection } from '../core/contracts.ts'

const TABLE = '__adflow_batch'

/** Calls `work` with a relation of the same rows, in the same order, that costs nothing to read again. Not inside a
 *  transaction that writes to an attached file. */
export async function readSeveralTimes<T>(
  engine: EngineConnection,
  relation: string,
  work: (relation: string) => Promise<T>,
): Promise<T> {
  if (!relation.startsWith('(')) return work(relation)
  await engine.run(`CREATE OR REPLACE TEMP TABLE ${TABLE} AS SELECT * FROM ${relation} AS batch`)
  try {
    return await work(`temp.main.${TABLE}`)
  } finally {
    // After a fatal error of the engine this fails too, and would hide the first error.
    await engine.run(`DROP TABLE IF EXISTS temp.main.${TABLE}`).catch(() => undefined)
  }
}
