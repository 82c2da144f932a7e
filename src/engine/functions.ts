/** What must be known of the engine's functions by their names: aggregates, and those that give another result each time. */
import { version } from '@duckdb/node-api'
import { AGGREGATES, UNREPEATABLE, VERSION } from './known-functions.ts'
import type { Session } from './session.ts'

/** What the engine calls itself: two versions need not make the same of the same expression. */
export const engineVersion = version

/** `now()` is the batch's clock (see BatchInfo.clock): the only function of its kind that repeats. */
export const CLOCK = 'now'

export interface Functions {
  readonly aggregates: ReadonlySet<string>
  readonly unrepeatable: ReadonlySet<string>
}

/** The same in every session: extensions are not loaded, and a job makes no functions. */
let functions: Functions | undefined

/**
 * Asking takes the engine longer than all that is asked of the expressions of a job, so the answer is written down
 * (`npm run generate`); an engine of another version is asked.
 */
export async function functionsOf(session: Session): Promise<Functions> {
  functions ??=
    version() === VERSION
      ? { aggregates: new Set(AGGREGATES.split(' ')), unrepeatable: new Set(UNREPEATABLE.split(' ')) }
      : await readFunctions(session)
  return functions
}

export async function readFunctions(session: Session): Promise<Functions> {
  const rows = await session.rows(
    `SELECT DISTINCT lower(function_name) AS name, function_type AS kind, coalesce(stability, '') AS stability
     FROM duckdb_functions() WHERE function_type = 'aggregate'
       OR (function_type IN ('scalar', 'macro') AND stability IN ('VOLATILE', 'CONSISTENT_WITHIN_QUERY'))`,
  )
  const aggregates = new Set<string>()
  const unrepeatable = new Set<string>()
  for (const row of rows) {
    const name = String(row['name'])
    if (row['kind'] === 'aggregate') aggregates.add(name)
    if (row['stability'] === 'VOLATILE' || row['stability'] === 'CONSISTENT_WITHIN_QUERY') unrepeatable.add(name)
  }
  unrepeatable.delete(CLOCK)
  unrepeatable.add('age/1')
  return { aggregates, unrepeatable }
}

/** Text of known-functions.ts. */
export function functionsModule(engineVersion: string, { aggregates, unrepeatable }: Functions): string {
  const listed = (names: ReadonlySet<string>) => `'${[...names].sort().join(' ')}'`
  return `/** Written by \`npm run generate\`: see functions.ts. */
export const VERSION = '${engineVersion}'
export const AGGREGATES =
  ${listed(aggregates)}
export const UNREPEATABLE =
  ${listed(unrepeatable)}
`
}
