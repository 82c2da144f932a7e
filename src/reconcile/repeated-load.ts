/** A batch that was repeated, as a loader takes it. */
import type { LoadBatch } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { encode } from '../engine/encode.ts'
import type { RepeatedBatch, Rerun } from '../runtime/rerun.ts'

export interface Target {
  /** Id of the store, and the output that it reads. */
  readonly id: string
  readonly input: string
  /** Token of the batch in the store. */
  readonly token: string
}

/** Valid until the next batch is asked for. */
export function loadBatchOf({ past, refined }: RepeatedBatch, rerun: Rerun, job: string, target: Target): LoadBatch {
  const output = refined.outputs.get(target.input)
  if (output === undefined)
    throw new AdflowError(
      'JOB_INVALID',
      `the run that read ${past.lane} had no output ${target.input}, which ${target.id} reads`,
      { hint: 'a store can only get of an old batch what its job gave then' },
    )
  const { source, lane, from, to, digest, clock } = past
  const engine = rerun.session
  return {
    job,
    source,
    range: { lane, from, to },
    token: target.token,
    digest,
    clock,
    columns: output.columns,
    relation: output.relation,
    engine,
    encode: (format, options) => encode(engine, output.relation, format, options),
  }
}
