/** Loaders on a real engine, written to the way the runtime writes: batches of rows made by SQL, tokens of their range. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import type { Column, LoadBatch, Loader, LoaderEnv, Receipt } from '../../src/core/contracts.ts'
import type { LoaderDefinition } from '../../src/core/definitions.ts'
import { tokenOf } from '../../src/core/token.ts'
import { encode } from '../../src/engine/encode.ts'
import { Engine, type Session } from '../../src/engine/session.ts'

export const JOB = 'conformance'
export const SOURCE = 'made_up'

export interface LoaderBenchOptions {
  readonly definition: LoaderDefinition
  readonly folder: string
  /** Options as in a job file, for each loader that will be made. */
  readonly options: readonly Readonly<Record<string, unknown>>[]
}

export interface BatchSpec {
  /** SELECT of the rows. */
  readonly rows: string
  /** The batch is the range [at, at + 1) of the lane. */
  readonly at?: number
  readonly lane?: string
  readonly digest?: string
  /** Hand over the SELECT itself, not a table. */
  readonly lazy?: boolean
  /** See LoadBatch. */
  readonly made?: string
  /** There are no rows, and the loader is told so. */
  readonly empty?: true
  readonly session?: Session
}

/** In lower case: some stores take no other names. */
export function newFolder(): string {
  const folder = join(tmpdir(), `adflow-loader-${randomBytes(6).toString('hex')}`)
  mkdirSync(folder, { mode: 0o700 })
  return folder
}

export class LoaderBench {
  readonly session: Session
  readonly folder: string
  readonly #engine: Engine
  readonly #definition: LoaderDefinition
  readonly #loaders: Loader[] = []
  #tables = 0

  private constructor(engine: Engine, session: Session, { definition, folder }: LoaderBenchOptions) {
    this.#engine = engine
    this.session = session
    this.folder = folder
    this.#definition = definition
  }

  /** Locked down with what the loaders ask for, as in a run. */
  static async open(options: LoaderBenchOptions): Promise<LoaderBench> {
    const { definition, folder } = options
    const access = options.options.map(
      (own) => definition.access?.(definition.options.parse(own), environment(folder, 'store')) ?? {},
    )
    const attach = new Map(access.flatMap((own) => own.attach ?? []).map((file) => [file.as, file]))
    mkdirSync(join(folder, 'spill'), { recursive: true })
    const engine = await Engine.open({
      memoryBytes: 400_000_000,
      threads: 2,
      tempFolder: join(folder, 'spill'),
      folders: [join(folder, 'spill'), ...access.flatMap((own) => own.folders ?? [])],
      attach: [...attach.values()],
    })
    return new LoaderBench(engine, await engine.connect(), options)
  }

  create(options: Readonly<Record<string, unknown>>, id = 'store'): Loader {
    const loader = this.#definition.create(this.#definition.options.parse(options), environment(this.folder, id))
    this.#loaders.push(loader)
    return loader
  }

  connect(): Promise<Session> {
    return this.#engine.connect()
  }

  async columns(rows: string): Promise<readonly Column[]> {
    return (await this.session.describe(rows)).map((column) => ({ ...column, from: [column.name] }))
  }

  async open(loader: Loader, rows: string): Promise<Loader> {
    await loader.open({ engine: this.session, columns: await this.columns(rows) })
    return loader
  }

  async batch(spec: BatchSpec): Promise<LoadBatch> {
    const { at = 0, digest = `sha256:${at}`, lane = 'lane', rows, session = this.session } = spec
    const range = { lane, from: String(at), to: String(at + 1) }
    let relation = `(${rows})`
    if (spec.lazy !== true) {
      this.#tables += 1
      relation = `"rows_${this.#tables}"`
      await session.run(`CREATE OR REPLACE TEMP TABLE ${relation} AS ${rows}`)
    }
    return {
      job: JOB,
      source: SOURCE,
      range,
      token: tokenOf({ job: JOB, source: SOURCE, range, epoch: '0' }),
      digest,
      clock: '2026-01-02T03:04:05.678Z',
      columns: await this.columns(rows),
      relation,
      ...(spec.empty === undefined ? {} : { empty: true }),
      ...(spec.made === undefined ? {} : { made: () => spec.made as string }),
      engine: session,
      encode: (format, options) => encode(session, relation, format, options),
    }
  }

  /** Opens nothing: the loader must be open for these columns. */
  async write(loader: Loader, spec: BatchSpec): Promise<Receipt> {
    return loader.write(await this.batch(spec), { signal: new AbortController().signal })
  }

  /** Rows that are in only one of the two SELECTs, as often as they are there more often. */
  async differences(expected: string, actual: string): Promise<{ missing: number; surplus: number }> {
    const count = (one: string, other: string) =>
      `(SELECT count(*) FROM (SELECT * FROM (${one}) EXCEPT ALL SELECT * FROM (${other})))`
    const [row] = await this.session.rows(
      `SELECT ${count(expected, actual)} AS missing, ${count(actual, expected)} AS surplus`,
    )
    return { missing: Number(row?.['missing']), surplus: Number(row?.['surplus']) }
  }

  /** All that were made; each lets go of its connections. */
  async closeLoaders(): Promise<void> {
    await Promise.all(this.#loaders.splice(0).map((loader) => loader.close()))
  }

  close(): void {
    this.session.close()
    this.#engine.close()
  }
}

export function removeFolder(folder: string): void {
  rmSync(folder, { recursive: true, force: true })
}

function environment(folder: string, id: string): LoaderEnv {
  return { id, job: JOB, baseDir: folder, log: pino({ level: 'silent' }), workDir: join(folder, 'spill') }
}
