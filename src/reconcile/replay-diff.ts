/** The same input through another job: which rows it adds, removes and changes, and which sums it moves. Nothing is loaded. */
import { mkdtemp, realpath, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { extname, join, resolve } from 'node:path'
import { AdflowError, EXIT, localIoError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { Engine, type Session } from '../engine/session.ts'
import { ident, literal } from '../engine/sql-text.ts'
import { openPastRun, type PastRunOptions } from './past-run.ts'
import { type MadeRows, rowsOf } from './replay-rows.ts'

export interface DiffOptions extends PastRunOptions {
  /** The other job. */
  readonly other: Job
  /** Store whose rows are compared; undefined: the first of the job. */
  readonly store?: string
  /** Columns by which rows are matched; undefined: the key of the store, where it has one. */
  readonly key?: readonly string[]
  readonly sum: readonly string[]
  readonly by: readonly string[]
  /** All differing rows are written there. */
  readonly out?: string
  readonly shown: number
  readonly signal: AbortSignal
}

export interface MovedSum {
  readonly by: Readonly<Record<string, unknown>>
  readonly column: string
  readonly before: string | null
  readonly after: string | null
}

export interface DiffReport {
  readonly schema_version: 1
  readonly job: string
  readonly run: string
  readonly other: string
  readonly store: string
  readonly key: readonly string[] | null
  readonly exit: number
  readonly before: number
  readonly after: number
  readonly added: number
  readonly removed: number
  readonly changed: number
  /** Column → rows in which it has changed. */
  readonly changed_columns: Readonly<Record<string, number>>
  readonly columns: { readonly added: readonly string[]; readonly removed: readonly string[] }
  /** Rule → records in quarantine before and after. */
  readonly quarantined: Readonly<Record<string, readonly [before: number, after: number]>>
  readonly sums: readonly MovedSum[]
  readonly rows: readonly { readonly kind: string; readonly before: unknown; readonly after: unknown }[]
  readonly out: string | null
  readonly changed_secrets: readonly string[]
}

export async function diffRun(options: DiffOptions): Promise<DiffReport> {
  const { registry, log, other, signal } = options
  const past = await openPastRun(options)
  const { pinned, own, before } = past
  const config = pinned.job.load.find(({ id }) => options.store === undefined || id === options.store)
  if (config === undefined)
    throw new AdflowError('USAGE', `the run had no store ${options.store}`, {
      hint: `stores: ${pinned.job.load.map(({ id }) => id).join(', ')}`,
    })
  const strange = [...new Set(own.map(({ source }) => source))].find((id) => !other.extract.some((s) => s.id === id))
  if (strange !== undefined)
    throw new AdflowError('USAGE', `${other.file} has no source ${strange}, which the run has read`, {
      hint: `its sources: ${other.extract.map(({ id }) => id).join(', ')}`,
    })
  const output = config.input ?? 'main'
  const folder = await scratch()
  try {
    const common = { registry, log, own, before, output, folder, signal, evolved: pinned.evolved }
    const one = await rowsOf({
      ...common,
      job: pinned.job,
      locate: pinned.locate,
      copies: pinned.copies,
      name: 'before',
    })
    const two = await rowsOf({ ...common, job: other, name: 'after' })
    const found = await new Difference(options, keyOf(options, config.options), one, two, folder).compare()
    return {
      schema_version: 1,
      job: pinned.job.name,
      run: past.run,
      other: other.file,
      store: config.id,
      ...found,
      exit: found.added + found.removed + found.changed > 0 ? EXIT.differences : EXIT.done,
      before: one.rows,
      after: two.rows,
      quarantined: quarantinedOf(one, two),
      changed_secrets: pinned.changed,
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

function keyOf({ key }: DiffOptions, options: unknown): readonly string[] | null {
  const own = (options as { key?: unknown }).key
  return key ?? (Array.isArray(own) ? own.map(String) : null)
}

function quarantinedOf(one: MadeRows, two: MadeRows): DiffReport['quarantined'] {
  const rules = [...new Set([...Object.keys(one.quarantined), ...Object.keys(two.quarantined)])].sort()
  return Object.fromEntries(rules.map((rule) => [rule, [one.quarantined[rule] ?? 0, two.quarantined[rule] ?? 0]]))
}

type Found = Pick<
  DiffReport,
  'key' | 'added' | 'removed' | 'changed' | 'changed_columns' | 'columns' | 'sums' | 'rows' | 'out'
>

class Difference {
  readonly #options: DiffOptions
  readonly #key: readonly string[] | null
  readonly #one: MadeRows
  readonly #two: MadeRows
  readonly #folder: string
  /** Columns that both have. */
  readonly #common: readonly string[]

  constructor(options: DiffOptions, key: readonly string[] | null, one: MadeRows, two: MadeRows, folder: string) {
    this.#options = options
    this.#one = one
    this.#two = two
    this.#folder = folder
    const names = new Map(two.columns.map(({ name }) => [name.toLowerCase(), name]))
    this.#common = one.columns.flatMap(({ name }) => (names.has(name.toLowerCase()) ? [name] : []))
    this.#key = key?.map((name) => this.#known(name, '--key')) ?? null
  }

  async compare(): Promise<Found> {
    const { resources } = this.#options.job
    const memoryBytes = Math.max(resources.memoryLimitBytes, 256_000_000)
    const tempFolder = join(this.#folder, 'temp')
    const engine = await Engine.open({ memoryBytes, threads: resources.threads, tempFolder, locked: false })
    const session = await engine.connect()
    try {
      await session.run(`CREATE TEMP TABLE one AS ${this.#numbered(this.#one)}`)
      await session.run(`CREATE TEMP TABLE two AS ${this.#numbered(this.#two)}`)
      await session.run(`CREATE TEMP TABLE diff AS ${this.#key === null ? this.#byRow() : this.#byKey(this.#key)}`)
      return await this.#found(session)
    } finally {
      session.close()
      engine.close()
    }
  }

  /** Of rows with the same key the first is compared with the first, the second with the second. */
  #numbered({ select }: MadeRows): string {
    const by = (this.#key ?? this.#common).map(ident).join(', ')
    return `SELECT * EXCLUDE (__file, __at), row_number() OVER (PARTITION BY ${by} ORDER BY __file, __at) AS __nth FROM (${select})`
  }

  #byKey(key: readonly string[]): string {
    const same = [...key, '__nth'].map((name) => `one.${ident(name)} IS NOT DISTINCT FROM two.${ident(name)}`)
    const differs = this.#common.map((name) => `one.${ident(name)} IS DISTINCT FROM two.${ident(name)}`)
    const names = this.#common.map((name, index) => `CASE WHEN ${differs[index]} THEN ${literal(name)} END`)
    return `SELECT CASE WHEN one.__nth IS NULL THEN 'added' WHEN two.__nth IS NULL THEN 'removed' ELSE 'changed' END AS kind,
      CASE WHEN one.__nth IS NOT NULL AND two.__nth IS NOT NULL THEN list_filter([${names.join(', ')}], lambda name: name IS NOT NULL) END AS columns,
      CASE WHEN one.__nth IS NOT NULL THEN ${structOf(this.#one, 'one')} END AS "before",
      CASE WHEN two.__nth IS NOT NULL THEN ${structOf(this.#two, 'two')} END AS "after"
      FROM one FULL OUTER JOIN two ON ${same.join(' AND ')}
      WHERE one.__nth IS NULL OR two.__nth IS NULL OR ${differs.join(' OR ')}`
  }

  #byRow(): string {
    const same = [...this.#common, '__nth'].map((name) => `one.${ident(name)} IS NOT DISTINCT FROM two.${ident(name)}`)
    return `SELECT CASE WHEN one.__nth IS NULL THEN 'added' ELSE 'removed' END AS kind, NULL::VARCHAR[] AS columns,
      CASE WHEN one.__nth IS NOT NULL THEN ${structOf(this.#one, 'one')} END AS "before",
      CASE WHEN two.__nth IS NOT NULL THEN ${structOf(this.#two, 'two')} END AS "after"
      FROM one FULL OUTER JOIN two ON ${same.join(' AND ')} WHERE one.__nth IS NULL OR two.__nth IS NULL`
  }

  async #found(session: Session): Promise<Found> {
    const counts = { added: 0, removed: 0, changed: 0 }
    for (const row of await session.rows('SELECT kind, count(*) AS n FROM diff GROUP BY kind'))
      counts[row['kind'] as keyof typeof counts] = Number(row['n'])
    const columns = await session.rows(
      'SELECT name, count(*) AS n FROM (SELECT unnest(columns) AS name FROM diff) GROUP BY name ORDER BY name',
    )
    const rows = await session.jsonRows(
      `SELECT kind, "before", "after" FROM diff ORDER BY kind, "before", "after" LIMIT ${this.#options.shown}`,
    )
    const has = ({ columns: own }: MadeRows) => own.map(({ name }) => name)
    return {
      key: this.#key,
      ...counts,
      changed_columns: Object.fromEntries(columns.map((row) => [String(row['name']), Number(row['n'])])),
      columns: {
        added: has(this.#two).filter((name) => !this.#isCommon(name)),
        removed: has(this.#one).filter((name) => !this.#isCommon(name)),
      },
      sums: await this.#sums(session),
      rows: rows.rows.map(([kind, before, after]) => ({ kind: String(kind), before, after })),
      out: await this.#write(session),
    }
  }

  async #sums(session: Session): Promise<readonly MovedSum[]> {
    const by = this.#options.by.map((name) => this.#known(name, '--by'))
    const moved: MovedSum[] = []
    for (const given of this.#options.sum) {
      const column = this.#known(given, '--sum')
      const side = (table: string) =>
        `SELECT ${[...by.map(ident), `sum(${ident(column)}) AS s`].join(', ')} FROM ${table} ${by.length === 0 ? '' : 'GROUP BY ALL'}`
      const on = by.map((name) => `a.${ident(name)} IS NOT DISTINCT FROM b.${ident(name)}`).join(' AND ')
      const keys = by.map((name) => `coalesce(a.${ident(name)}, b.${ident(name)}) AS ${ident(name)}`)
      const found = await session.jsonRows(
        `SELECT ${[...keys, 'a.s::VARCHAR AS "before"', 'b.s::VARCHAR AS "after"'].join(', ')} FROM (${side('one')}) a FULL OUTER JOIN (${side('two')}) b ON ${on === '' ? 'true' : on} WHERE a.s IS DISTINCT FROM b.s ORDER BY ALL`,
      )
      for (const values of found.rows) {
        const named = Object.fromEntries(by.map((name, index) => [name, values[index]]))
        const [before, after] = values.slice(by.length) as (string | null)[]
        moved.push({ by: named, column, before: before ?? null, after: after ?? null })
      }
    }
    return moved
  }

  async #write(session: Session): Promise<string | null> {
    const { out } = this.#options
    if (out === undefined) return null
    const format = { '.parquet': 'FORMAT parquet', '.csv': 'FORMAT csv, HEADER true', '.ndjson': 'FORMAT json' }[
      extname(out)
    ]
    if (format === undefined)
      throw new AdflowError('USAGE', `--out ${out}: the ending says the format`, {
        hint: 'use .ndjson, .csv or .parquet',
      })
    const file = resolve(out)
    await session.run(`COPY (SELECT * FROM diff ORDER BY kind, "before", "after") TO ${literal(file)} (${format})`)
    return file
  }

  #isCommon(name: string): boolean {
    return this.#common.some((other) => other.toLowerCase() === name.toLowerCase())
  }

  #known(name: string, flag: string): string {
    const found = this.#common.find((other) => other.toLowerCase() === name.toLowerCase())
    if (found !== undefined) return found
    throw new AdflowError('USAGE', `${flag} ${name}: no column that both jobs have`, {
      hint: `columns: ${this.#common.join(', ')}`,
    })
  }
}

function structOf({ columns }: MadeRows, table: string): string {
  return `struct_pack(${columns.map(({ name }) => `${ident(name)} := ${table}.${ident(name)}`).join(', ')})`
}

async function scratch(): Promise<string> {
  try {
    return await realpath(await mkdtemp(join(tmpdir(), 'adflow-diff-')))
  } catch (error) {
    throw localIoError(error, `make a temporary folder in ${tmpdir()}`)
  }
}
