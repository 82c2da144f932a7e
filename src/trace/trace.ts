/**
 * From rows of a store to the records behind them. A row knows its batch, the ledger knows the batch's place, and the batch is
 * repeated, once however many rows are asked for, to find the record. Reads only.
 */
import { tokenNumber } from '../core/token.ts'
import type { Session } from '../engine/session.ts'
import { openBrowser } from '../runtime/browse.ts'
import { type PastBatch, pastBatches } from '../runtime/past-batches.ts'
import { stateDirOf } from '../runtime/state-dir.ts'
import { commonColumns, handOver } from './hand-over.ts'
import { BATCH, ID, type Matches, matchRows, matchSets, WANTED } from './match.ts'
import { recordsOf, type TracedRecord } from './records.ts'
import { type Repeats, type Repetition, repeatBatches } from './repeat.ts'
import { type OpenStore, openStores } from './stores.ts'
import { type Trace, type TraceOptions, told, type Untraced } from './trace-result.ts'
import { selectWanted } from './wanted.ts'

/** @throws AdflowError USAGE, NOT_FOUND, STORE_UNAVAILABLE, STORE_LOCKED, LEDGER_DAMAGED */
export async function traceRows(options: TraceOptions): Promise<Trace> {
  const { job, registry, log, signal } = options
  const browser = await openBrowser(job, options.stateDir, registry, log, { stores: false })
  try {
    const { session } = browser
    const store = await storeOf(options, session)
    const wanted = await selectWanted(session, store, options)
    const batches = await batchesBehind(session, store, new Set(wanted.numbers))
    const found = new Map<number, { readonly past: PastBatch; readonly records: readonly TracedRecord[] }>()
    const repeats = await repeatBatches(
      [...batches.values()],
      {
        job,
        registry,
        log,
        env: options.env,
        signal,
        state: stateDirOf(options.stateDir, job.name),
        outputs: store.output.kind === 'set' ? [store.output.name] : [],
      },
      async (repetition) => {
        const { past } = repetition.repeated
        for (const [id, records] of await recordsBehind(repetition, store, session)) found.set(id, { past, records })
      },
    )
    return told({ job, store, wanted, batches, found, untraced: (number) => why(number, batches, repeats), repeats })
  } finally {
    browser.close()
  }
}

async function storeOf({ job, registry, log, store }: TraceOptions, session: Session): Promise<OpenStore> {
  const only = store === undefined ? {} : { only: [store] }
  const { open, closed } = await openStores({ job, registry, log, session, ...only })
  const [first] = open.filter(({ contents }) => contents.batch !== undefined || store !== undefined)
  const error = Object.values(closed)[0]
  if (first === undefined && error !== undefined) throw error
  if (first === undefined) return requireStore(open)
  return first
}

function requireStore([only]: readonly OpenStore[]): OpenStore {
  if (only !== undefined) return only
  throw new Error('a job has at least one store')
}

/** Number in the store → batch. */
async function batchesBehind(
  session: Session,
  { id }: OpenStore,
  numbers: ReadonlySet<bigint | null>,
): Promise<ReadonlyMap<bigint, PastBatch>> {
  const found = new Map<bigint, PastBatch>()
  for (const batch of await pastBatches(session)) {
    const number = tokenNumber(batch.stores[id]?.token ?? batch.token)
    if (numbers.has(number)) found.set(number, batch)
  }
  return found
}

async function recordsBehind(
  repetition: Repetition,
  store: OpenStore,
  session: Session,
): Promise<ReadonlyMap<number, readonly TracedRecord[]>> {
  const { repeated, rerun } = repetition
  const { past, refined } = repeated
  const output = refined.outputs.get(store.output.name)
  if (output === undefined) return new Map()
  const columns = commonColumns(store.contents.columns, output.columns)
  await bringWanted(repetition, session, columns)
  const options = {
    number: tokenNumber(past.stores[store.id]?.token ?? past.token),
    columns,
    lastWins: store.contents.key !== undefined,
  }
  const kind = rerun.pipeline.outputs.get(store.output.name)?.kind
  const matches: Matches =
    kind === 'row' ? await matchRows(repetition, options) : await matchSets(repetition, options, store.output.name)
  const rows = [...new Set([...matches.values()].flat())].sort((a, b) => a - b)
  const ordinals = new Map(repeated.ordinals(rows).map((ordinal, index) => [rows[index] as number, ordinal]))
  const records = await recordsOf(repeated, [...ordinals.values()], rerun.session)
  return new Map(
    [...matches].map(([id, own]) => [id, own.flatMap((row) => records.get(ordinals.get(row) ?? -1) ?? [])]),
  )
}

const brought = new WeakMap<object, string>()

/** All rows that are asked for go to the rerun at once; again only where a batch has other columns. */
async function bringWanted(
  { rerun }: Repetition,
  session: Session,
  columns: readonly { readonly name: string; readonly type: string }[],
): Promise<void> {
  const list = JSON.stringify(columns)
  if (brought.get(rerun) === list) return
  const typed = [{ name: ID, type: 'BIGINT' }, { name: BATCH, type: 'BIGINT' }, ...columns]
  await handOver({ from: session, to: rerun.session, folder: rerun.folder, table: WANTED }, `FROM ${WANTED}`, typed)
  brought.set(rerun, list)
}

function why(number: bigint | null, batches: ReadonlyMap<bigint, PastBatch>, { failed }: Repeats): Untraced {
  if (number === null)
    return {
      status: 'unnumbered',
      message: 'the row does not know its batch: it was there before the column, or somebody else put it there',
    }
  const batch = batches.get(number)
  if (batch === undefined)
    return {
      status: 'unknown_batch',
      message: `the ledger of this job has no batch ${number}: another job or state directory has loaded the row, or it went through a pipe`,
    }
  const error = failed.get(batch.token)
  if (error === undefined)
    return {
      status: 'changed',
      message:
        'its batch gives no such row: the row was changed or added after it was loaded, or a secret of the job is another one',
    }
  return {
    status: 'source',
    code: error.code,
    message: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  }
}
