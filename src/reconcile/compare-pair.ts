/** One store against the sources, or against another store: opened on one engine, compared, healed, compared again. */
import { existsSync } from 'node:fs'
import { copyFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import type { Comparison } from '../core/comparison.ts'
import type { Loader } from '../core/contracts.ts'
import { AdflowError, localIoError } from '../core/errors.ts'
import type { JobLoader } from '../core/job/job.ts'
import { literal } from '../engine/sql-text.ts'
import { Rerun } from '../runtime/rerun.ts'
import { type Compared, compareBuckets, narrowed, type Sides, suspects, table } from './bisect.ts'
import { findDifferences, type KindCounts, NO_DIFFERENCES, noDifferences } from './differences.ts'
import { endOpenHeals, heal } from './heal.ts'
import { batchesOf, type KnownBatches } from './known-batches.ts'
import type { Situation } from './reconcile.ts'
import { BATCHES, type ComparisonReport, differingBuckets, keepRows, sampleRows } from './report.ts'
import { type ScopeSide, scopeOf } from './scope.ts'
import { SourceSide } from './source-side.ts'

const WITHOUT = 'reconcile_without'

interface OpenStore extends ScopeSide {
  readonly id: string
  readonly loader: Loader
  readonly comparison: Comparison
  readonly known: KnownBatches
}

export async function comparePair(
  situation: Situation,
  left: JobLoader | undefined,
  right: JobLoader,
  /** Parquet file for all differing rows. */
  keep: string | undefined,
): Promise<ComparisonReport> {
  const { options, checkpoint } = situation
  const stores = left === undefined ? [right] : [left, right]
  await requireFiles(situation, stores)
  const { evolved } = checkpoint
  const input = right.input ?? 'main'
  const rerun = await Rerun.open(
    {
      job: options.job,
      registry: options.registry,
      log: options.log,
      outputs: [],
      readOnly: options.heal === 'none',
      ...(evolved === undefined ? {} : { evolved }),
    },
    stores,
  )
  try {
    return await new Pair(situation, rerun, { input, left: left?.id, right: right.id, keep }).report()
  } finally {
    await rerun.close()
  }
}

/** Before the engine attaches anything: it would make a file that is not there. */
async function requireFiles({ options }: Situation, stores: readonly JobLoader[]): Promise<void> {
  const { job, registry, log } = options
  for (const config of stores) {
    const definition = await registry.get('loader', config.type)
    const access = definition.access?.(config.options, { id: config.id, job: job.name, baseDir: job.baseDir, log })
    const gone = (access?.attach ?? []).find(({ file }) => !existsSync(file))
    if (gone !== undefined)
      throw new AdflowError('STORE_UNAVAILABLE', `the store ${config.id} is gone: ${gone.file} does not exist`, {
        hint: 'restore it from a backup, or load everything anew with `adflow state rewind --reload`; nothing was changed',
      })
  }
}

interface PairParts {
  /** Output that both sides have the rows of. */
  readonly input: string
  readonly left: string | undefined
  readonly right: string
  readonly keep: string | undefined
}

class Pair {
  readonly #situation: Situation
  readonly #rerun: Rerun
  readonly #input: string
  readonly #left: string | undefined
  readonly #right: string
  readonly #keep: string | undefined

  constructor(situation: Situation, rerun: Rerun, { input, left, right, keep }: PairParts) {
    this.#situation = situation
    this.#rerun = rerun
    this.#input = input
    this.#left = left
    this.#right = right
    this.#keep = keep
  }

  get #session(): Rerun['session'] {
    return this.#rerun.session
  }

  async report(): Promise<ComparisonReport> {
    const { options } = this.#situation
    const right = await this.#openStore(this.#right)
    const left = this.#left === undefined ? undefined : await this.#openStore(this.#left)
    if (left !== undefined && left.comparison.write !== right.comparison.write)
      throw new AdflowError(
        'USAGE',
        `${left.id} holds every version of a row and ${right.id} the last, or the other way round`,
        {
          hint: 'compare each of them with the sources',
        },
      )
    if (right.comparison.write === 'replace')
      throw new AdflowError('USAGE', `${right.id} is replaced by each run: nobody remembers which batches it holds`, {
        hint: 'run the job again to have it replaced; `append` and `merge` can be reconciled',
      })
    const batches = left === undefined ? right.known.compared : common(left.known, right.known)
    if (batches.length === 0)
      throw new AdflowError(
        'STATE_MISSING',
        `there is nothing to reconcile: no batch of ${options.source ?? 'the job'} is loaded into ${right.id}`,
        {
          hint: 'run the job first; `adflow status` says what is owed',
        },
      )
    this.#requireOneSource(right)
    const scope = scopeOf(options.wishes, {
      columns: this.#rerun.pipeline.outputs.get(this.#input)?.relation.columns ?? [],
      stepKey: this.#stepKey(),
      sides: left === undefined ? [right] : [left, right],
      rows: batches.reduce((total, { past }) => total + past.rows, 0),
    })
    const notLoaded = await this.#notLoaded()
    const source =
      left === undefined
        ? new SourceSide(this.#rerun, {
            batches,
            input: this.#input,
            merged: right.comparison.write === 'merge',
            signal: options.signal,
          })
        : undefined
    await source?.read(scope)
    await this.#tableOfBatches(batches)
    const numbers = new Set(batches.map(({ number }) => number))
    for (const { past } of source?.unreadable ?? []) {
      const lost = batches.find((batch) => batch.past === past)
      if (lost !== undefined) numbers.delete(lost.number)
    }
    const scopeFor = async (store: OpenStore, name: string) => {
      const out = [...store.known.without, ...store.known.compared.map(({ number }) => number)]
      const others = out.filter((number) => !numbers.has(number))
      if (others.length === 0 || !store.open.batches) return scope
      await table(this.#session, name, `SELECT unnest([${others.join(', ')}]::BIGINT[]) AS batch`)
      return { ...scope, without: name }
    }
    const sides: Sides = {
      left: source ?? (left as OpenStore).open.side,
      right: right.open.side,
      leftScope: left === undefined ? scope : await scopeFor(left, `${WITHOUT}_left`),
      rightScope: await scopeFor(right, `${WITHOUT}_right`),
      compare: options.compare,
    }
    const compared = await compareBuckets(this.#session, sides)
    this.#requireRows(compared)
    const found = await this.#differences(sides, compared)
    const sample = await sampleRows(this.#session, scope, options.limit)
    if (this.#keep !== undefined) await this.#keepRows(this.#keep)
    const healed = await this.#heal(right, sides, source, found, batches)
    const clean = compared.differing.length === 0 || (healed !== null && total(healed.remaining) === 0)
    const { owed, never, later } = right.known
    return {
      left: this.#leftName,
      right: this.#right,
      rows: { left: Number(compared.rows[0]), right: Number(compared.rows[1]) },
      by: scope.bucket.by,
      column: scope.bucket.by === 'time' ? scope.bucket.column : null,
      bucket: scope.bucket.by === 'time' ? scope.bucket.widthUs / 1000 : scope.bucket.count,
      key: scope.key,
      digest: scope.digest,
      batches: batches.length,
      buckets: compared.buckets,
      differing: differingBuckets(compared.differing, scope),
      differences: found,
      sample,
      not_loaded: { ...notLoaded, batches: never.length },
      owed: { batches: owed.length, rows: owed.reduce((sum, batch) => sum + (batch.stores[right.id]?.rows ?? 0), 0) },
      later,
      unreadable: (source?.unreadable ?? []).map(({ past: { lane, from, to }, code, message }) => ({
        lane,
        from,
        to,
        code,
        message,
      })),
      remarks: [...(left?.open.remarks ?? []), ...right.open.remarks],
      heal: healed,
      clean,
    }
  }

  get #leftName(): string {
    return this.#left ?? this.#situation.options.source ?? 'sources'
  }

  async #openStore(id: string): Promise<OpenStore> {
    const { options, snapshot } = this.#situation
    const found = this.#rerun.workshop.loaders.find(({ config }) => config.id === id)
    if (found === undefined) throw new AdflowError('UNEXPECTED', `store ${id} was not opened`)
    if (found.unavailable !== undefined) throw found.unavailable
    const { loader } = found
    const { comparison } = loader
    if (comparison === undefined)
      throw new AdflowError('USAGE', `${id} cannot be compared: stores of its type do not say what they hold`, {
        hint: '--against names one store to check, where the job has others',
      })
    const columns = this.#rerun.pipeline.outputs.get(this.#input)?.relation.columns ?? []
    const open = await comparison.open({ engine: this.#session, columns })
    const { job, source: only } = options
    const known = await batchesOf({ id, loader }, snapshot, { job: job.name, session: this.#session, only })
    return { id, name: id, loader, comparison, open, known }
  }

  /** Rows of one source are told apart by their batch; a merge forgets whose row it has replaced. */
  #requireOneSource({ id, comparison, open }: OpenStore): void {
    const { source, job } = this.#situation.options
    if (source === undefined || job.extract.length === 1) return
    if (comparison.write === 'append' && open.batches) return
    throw new AdflowError('USAGE', `${id} does not tell which rows are from ${source}`, {
      hint: `leave out --source: all sources are compared with ${id} at once`,
    })
  }

  #stepKey(): readonly string[] | undefined {
    const { outputs, stages } = this.#rerun.pipeline
    if (outputs.get(this.#input)?.kind !== 'row') return undefined
    return stages.findLast(({ step }) => step.key !== undefined)?.step.key
  }

  async #notLoaded(): Promise<{ lanes: number; bytes: number }> {
    const { checkpoint, options } = this.#situation
    const surveys = this.#rerun.workshop.extractors
      .filter(({ config }) => options.source === undefined || options.source === config.id)
      .map(({ config, extractor }) => extractor.survey(checkpoint.sources[config.id] ?? {}))
    const waiting = (await Promise.all(surveys)).flat().filter(({ bytesLeft }) => bytesLeft > 0)
    return { lanes: waiting.length, bytes: waiting.reduce((sum, { bytesLeft }) => sum + bytesLeft, 0) }
  }

  async #tableOfBatches(batches: KnownBatches['compared']): Promise<void> {
    await table(
      this.#session,
      BATCHES,
      `SELECT 0::BIGINT AS number, '' AS lane, '' AS range_from, '' AS range_to WHERE false`,
    )
    for (let at = 0; at < batches.length; at += 1000) {
      const values = batches
        .slice(at, at + 1000)
        .map(
          ({ number, past: { lane, from, to } }) =>
            `((${number})::BIGINT, ${[lane, from, to].map(literal).join(', ')})`,
        )
      await this.#session.run(`INSERT INTO ${BATCHES} VALUES ${values.join(', ')}`)
    }
  }

  /** The engine reaches its own folders only. */
  async #keepRows(keep: string): Promise<void> {
    const scratch = join(this.#rerun.folder, basename(keep))
    await keepRows(this.#session, scratch, { left: this.#leftName, right: this.#right })
    await copyFile(scratch, keep).catch((error: unknown) => {
      throw localIoError(error, `keep the differing rows in ${keep}`)
    })
  }

  #requireRows({ rows }: Compared): void {
    const { from, to } = this.#situation.options.wishes
    if ((from === undefined && to === undefined) || rows[0] + rows[1] > 0n) return
    throw new AdflowError('USAGE', 'no row of either side lies between --from and --to: that range was never loaded', {
      hint: 'both are compared with the time column of the rows, in UTC; leave them out to see what there is',
    })
  }

  async #differences(sides: Sides, compared: Compared): Promise<KindCounts> {
    const narrow = narrowed(sides, compared)
    if (compared.differing.length > 0 && (await suspects(this.#session, narrow)) > 0)
      return findDifferences(this.#session, narrow)
    await noDifferences(this.#session, sides.leftScope)
    return NO_DIFFERENCES
  }

  async #heal(
    right: OpenStore,
    sides: Sides,
    source: SourceSide | undefined,
    found: KindCounts,
    batches: KnownBatches['compared'],
  ): Promise<ComparisonReport['heal']> {
    const { options, ledger, run, snapshot } = this.#situation
    const { heal: mode, who, job, signal, confirm } = options
    if (mode === 'none' || ledger === undefined) return null
    await endOpenHeals(snapshot.openHeals, { store: right, session: this.#session, ledger, who })
    if (total(found) === 0 || (mode === 'missing' && found.missing === 0)) return null
    const { leftScope: asked, rightScope: scope } = sides
    if (mode === 'all' && !(await confirm(right.id, found))) return null
    const store = right
    const healed = await heal({
      mode,
      job: job.name,
      store,
      session: this.#session,
      scope,
      found,
      batches,
      source,
      ledger,
      run,
      who,
      signal,
    })
    const columns = asked.columns.map(({ name, type }) => ({ name, type, from: [] }))
    const { side } = await right.comparison.open({ engine: this.#session, columns })
    const after = { ...sides, right: side }
    return { ...healed, remaining: await this.#differences(after, await compareBuckets(this.#session, after)) }
  }
}

/** What both stores were given. */
function common(left: KnownBatches, right: KnownBatches): KnownBatches['compared'] {
  const numbers = new Set(left.compared.map(({ number }) => number))
  return right.compared.filter(({ number }) => numbers.has(number))
}

function total(counts: KindCounts): number {
  return Object.values(counts).reduce((sum, count) => sum + count, 0)
}
