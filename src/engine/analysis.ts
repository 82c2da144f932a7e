/**
 * Lint-time knowledge of SQL expressions: their type, the columns they come from, and whether they may stand where they
 * stand. Works on empty relations; reads no data. The engine's own parser and binder decide; nothing here parses SQL.
 */
import type { Column, Relation } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { redact } from '../core/job/secrets.ts'
import { didYouMean } from '../core/job/suggest.ts'
import type { Analysis, Expression, Fold, Typed } from '../core/step-contract.ts'
import type { ColumnOrigin } from '../core/step-lineage.ts'
import { foldOf } from './folds.ts'
import { CLOCK, functionsOf } from './functions.ts'
import { columnNamed, emptyRelation, ROW } from './relation.ts'
import { type Followed, selectLineage } from './select-lineage.ts'
import type { Session } from './session.ts'
import { ident, literal } from './sql-text.ts'
import { collect, type Mentions, type Node, visit } from './syntax-tree.ts'

/** Keywords that the parser gives as columns, and age() of one argument. */
const CLOCK_KEYWORDS = new Set(['current_timestamp', 'current_date', 'current_time', 'localtime', 'localtimestamp'])
/** Functions that read what a job file must not: variables hold secrets, settings name paths. */
const FORBIDDEN = new Set(['getvariable', 'current_setting', 'getenv', 'query', 'query_table'])
/** Functions that make many rows of one: in a row expression they would double records. */
const MULTIPLYING = new Set(['unnest', 'unlist', 'generate_subscripts'])

export async function createAnalysis(session: Session): Promise<Analysis> {
  await session.run(`CREATE OR REPLACE TEMP MACRO ${CLOCK}() AS TIMESTAMPTZ '2000-01-01 00:00:00+00'`)
  return new EngineAnalysis(session)
}

class EngineAnalysis implements Analysis {
  readonly #session: Session
  /** Answers about single expressions, which know no tables. A step is compiled twice: in the chain, and alone. */
  readonly #known = new Map<string, Promise<unknown>>()

  constructor(session: Session) {
    this.#session = session
  }

  async row(expression: Expression, input: Relation): Promise<Typed> {
    const mentions = await this.#mentionsOf(expression)
    const { aggregates } = await functionsOf(this.#session)
    const aggregate = mentions.functions.find((name) => aggregates.has(name))
    if (aggregate !== undefined)
      throw invalid(expression, `${aggregate}() is an aggregate: it cannot stand in an expression over one row`, {
        hint: 'use an `aggregate` step, or a batch rule',
      })
    if (mentions.windows > 0)
      throw invalid(expression, 'a window function (… OVER …) cannot stand in an expression over one row', {
        hint: 'use a `sql` step',
      })
    return this.#typed(expression, input, mentions, mentions.plain ? undefined : 'computed')
  }

  async aggregate(expression: Expression, input: Relation): Promise<Typed> {
    const mentions = await this.#mentionsOf(expression)
    const { aggregates } = await functionsOf(this.#session)
    if (!mentions.functions.some((name) => aggregates.has(name)) && mentions.columns.length > 0)
      throw invalid(expression, 'no aggregate function: say what to do with many rows, such as sum(…) or max(…)', {})
    if (mentions.windows > 0)
      throw invalid(expression, 'a window function (… OVER …) cannot stand in an aggregate expression', {
        hint: 'use a `sql` step',
      })
    return this.#typed(expression, input, mentions, 'aggregated')
  }

  async fold(expression: Expression, input: Relation, nameOf: (part: number) => string): Promise<Fold | undefined> {
    const { aggregates } = await functionsOf(this.#session)
    const fold = await foldOf(this.#session, expression.sql, { aggregates, nameOf })
    if (fold === undefined) return undefined
    const over = emptyRelation(input.columns).sql
    const made = fold.parts.map(({ make }, part) => `(${make}) AS p${part}`)
    const values = made.filter((_, part) => fold.parts[part]?.kind === 'value')
    const measures = made.filter((_, part) => fold.parts[part]?.kind === 'measure')
    const types = new Map<string, string>()
    for (const items of [values, measures])
      if (items.length > 0)
        for (const { name, type } of await this.#session.describe(`SELECT ${items.join(', ')} FROM (${over})`))
          types.set(name, type)
    return { ...fold, parts: fold.parts.map((part, index) => ({ ...part, type: types.get(`p${index}`) ?? '' })) }
  }

  async select(statement: Expression, input: Relation): Promise<{ columns: Column[] }> {
    const ast = await this.#parse(statement.sql, statement)
    if (ast.length !== 1) throw invalid(statement, 'exactly one SELECT is expected', {})
    const mentions = collect(ast)
    const { aggregates, unrepeatable } = await functionsOf(this.#session)
    refuse(statement, mentions, unrepeatable)
    const known = new Set(['input', ...cteNames(ast)])
    const foreign = mentions.tables.find((table) => !known.has(table.toLowerCase()))
    if (foreign !== undefined)
      throw invalid(statement, `table ${foreign} is not known here`, {
        hint: 'the rows of the preceding step are the table `input`',
      })
    const described = await this.#describe(
      statement,
      input,
      `SELECT * FROM (${overInput(visible(input), statement.sql)})`,
    )
    const followed = selectLineage(ast[0]?.['node'] as Node, input.columns, aggregates)
    if (followed !== undefined && followed.length === described.length)
      return { columns: described.map(({ name, type }, index) => ({ name, type, ...outOf(followed[index]) })) }
    // A statement that cannot be followed: everything that it names may be in every column, and `*` brings what has the name.
    const from = mentions.columns.flatMap((names) => sourcesOf(names, input))
    return {
      columns: described.map(({ name, type }) => ({
        name,
        type,
        from: [...new Set([...(columnNamed(input, name)?.from ?? []), ...from])],
        how: 'computed',
      })),
    }
  }

  async #typed(
    expression: Expression,
    input: Relation,
    mentions: Mentions,
    how: ColumnOrigin | undefined,
  ): Promise<Typed> {
    const select = `SELECT (${expression.sql}\n) AS v FROM (${emptyRelation(input.columns).sql})`
    const [described] = await this.#once(select, () => this.#describe(expression, input, select))
    if (described === undefined) throw invalid(expression, 'the expression has no value', {})
    const from = [...new Set(mentions.columns.flatMap((names) => sourcesOf(names, input)))]
    return { type: described.type, from, ...(how === undefined ? {} : { how }) }
  }

  /** The parts of one scalar expression; refuses anything that is more than that. */
  async #mentionsOf(expression: Expression): Promise<Mentions & { readonly plain: boolean }> {
    const statement = `SELECT (${expression.sql}\n)`
    const ast = await this.#once(statement, () => this.#parse(statement, expression))
    const select = (ast[0] as { node?: Node } | undefined)?.node
    const items = select?.['select_list'] as Node[] | undefined
    const source = select?.['from_table'] as Node | undefined
    if (ast.length !== 1 || items?.length !== 1 || source?.type !== 'EMPTY' || select?.['where_clause'] != null)
      throw invalid(expression, 'one expression is expected here', {
        hint: 'write only the expression, without SELECT or FROM',
      })
    const mentions = collect(items)
    if (mentions.subqueries > 0)
      throw invalid(expression, 'a sub-query cannot stand here', { hint: 'use a `lookup` or a `sql` step' })
    refuse(expression, mentions, (await functionsOf(this.#session)).unrepeatable)
    if (mentions.stars > 0) throw invalid(expression, 'one value is expected here, not many columns', {})
    const multiplying = mentions.functions.find((name) => MULTIPLYING.has(name))
    if (multiplying !== undefined)
      throw invalid(expression, `${multiplying}() makes many rows of one`, { hint: 'use a `sql` step' })
    if (mentions.columns.some((names) => names.at(-1) === ROW)) throw invalid(expression, `${ROW} is internal`, {})
    return { ...mentions, plain: items[0]?.class === 'COLUMN_REF' && items[0].column_names?.length === 1 }
  }

  /** A refusal names the place of the expression: it is not kept. */
  #once<T>(statement: string, ask: () => Promise<T>): Promise<T> {
    const known = this.#known.get(statement) as Promise<T> | undefined
    if (known !== undefined) return known
    const asked = ask()
    this.#known.set(statement, asked)
    asked.catch(() => this.#known.delete(statement))
    return asked
  }

  async #parse(sql: string, expression: Expression): Promise<Node[]> {
    const text = String(await this.#session.value(`SELECT json_serialize_sql(${literal(sql)})`))
    const parsed = JSON.parse(text) as { error: boolean; error_message?: string; statements?: Node[] }
    if (parsed.error || parsed.statements === undefined)
      throw refused(expression, { message: parsed.error_message ?? 'the expression does not parse' })
    return parsed.statements
  }

  async #describe(expression: Expression, input: Relation, select: string): Promise<{ name: string; type: string }[]> {
    try {
      return await this.#session.describe(select)
    } catch (error) {
      throw refused(expression, binderMessage(error, input), error)
    }
  }
}

function refuse(expression: Expression, mentions: Mentions, unrepeatable: ReadonlySet<string>): void {
  const forbidden = mentions.functions.find((name) => FORBIDDEN.has(name))
  if (forbidden !== undefined) throw invalid(expression, `${forbidden}() is not allowed in a job file`, {})
  const volatile =
    mentions.functions.find((name) => unrepeatable.has(name)) ??
    mentions.columns.map(([name]) => name?.toLowerCase() ?? '').find((name) => CLOCK_KEYWORDS.has(name))
  if (volatile !== undefined)
    throw invalid(expression, `${volatile} gives another result each time: a retried batch would differ`, {
      hint: 'now() is the clock of the batch and repeats; for keys use a hash of the columns',
    })
}

function invalid(expression: Expression, message: string, options: { hint?: string; cause?: unknown }): AdflowError {
  return new AdflowError('SQL_INVALID', message, {
    ...options,
    details: { path: expression.path, sql: expression.sql },
  })
}

/** A statement over the rows of `rows` under the name `input`; the statement may have a WITH of its own. */
export function overInput(rows: string, statement: string): string {
  return `WITH input AS (${rows}) SELECT * FROM (${statement}\n)`
}

interface Refusal {
  readonly message: string
  readonly hint?: string
}

/** What the engine says against an expression. It may quote any part of it, and redaction finds whole secrets only. */
function refused(expression: Expression, { message, hint }: Refusal, cause?: unknown): AdflowError {
  if (redact(expression.sql) !== expression.sql)
    return invalid(
      expression,
      'the expression does not fit, and it holds a secret: what the engine says is not shown',
      {
        hint: "try it with another text in the place of the secret; text needs quotes: `'${…}'`",
      },
    )
  return invalid(expression, message, {
    ...(hint === undefined ? {} : { hint }),
    ...(cause === undefined ? {} : { cause }),
  })
}

/** The engine's message without the statement that adflow made around the expression. */
function binderMessage(error: unknown, input: Relation): Refusal {
  const text = error instanceof Error ? error.message : String(error)
  const message = text
    .replace(/\n+LINE \d+:[\s\S]*$/, '')
    .replace(/^[A-Za-z ]+ Error: /, '')
    .replaceAll(`"${ROW}", `, '')
    .trim()
  const names = input.columns.map(({ name }) => name)
  const [, column] = /^Referenced column "([^"]+)" not found/.exec(message) ?? []
  if (column !== undefined)
    return {
      message: `there is no column ${column} here`,
      hint: didYouMean(column, names) ?? `columns here: ${names.join(', ')}`,
    }
  const [, name, near] =
    /^\w+ Function with name (\S+) does not exist!(?:\s*Did you mean "([^"]+)"\?)?/.exec(message) ?? []
  if (name !== undefined)
    return {
      message: `there is no function ${name}`,
      ...(near === undefined ? {} : { hint: `did you mean \`${near}\`?` }),
    }
  return { message }
}

/** The relation under the name `input`, without the internal ordinal. */
function visible(input: Relation): string {
  return `SELECT ${input.columns.map((column) => ident(column.name)).join(', ')} FROM (${emptyRelation(input.columns).sql})`
}

function outOf(column: Followed | undefined): Followed {
  const { from = [], how } = column ?? {}
  return { from, ...(how === undefined ? {} : { how }) }
}

function sourcesOf(names: readonly string[], input: Relation): readonly string[] {
  for (const name of names) {
    const column = columnNamed(input, name)
    if (column !== undefined) return column.from
  }
  return []
}

function cteNames(statements: readonly Node[]): string[] {
  const names: string[] = []
  visit(statements, (node) => {
    const map = (node['cte_map'] as { map?: { key: string }[] } | undefined)?.map ?? []
    names.push(...map.map(({ key }) => key.toLowerCase()))
  })
  return names
}
