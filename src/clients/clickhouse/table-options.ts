/** How a job states a table of ClickHouse, and the views that are fed by it. */
import { z } from 'zod'

const expression = z.string().min(1)

const storageShape = {
  order_by: z
    .array(expression)
    .min(1)
    .optional()
    .describe('Sorting key: columns or expressions of ClickHouse, in order. Default: the `key` of a merge, else none.'),
  partition_by: expression
    .optional()
    .describe('Expression of ClickHouse, such as `toYYYYMM(event_time)`: rows with one value of it lie together.'),
  ttl: expression
    .optional()
    .describe('When rows go, such as `toDateTime(event_time) + INTERVAL 90 DAY`. Its columns must be in `not_null`.'),
  version: z
    .string()
    .min(1)
    .optional()
    .describe(
      'Only for ReplacingMergeTree: of rows with one sorting key the one with the greatest value here stays. A NULL in it is refused.',
    ),
  sum: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe('Only for SummingMergeTree: the columns that are summed. Default: all numbers outside of `order_by`.'),
} as const

const viewOption = z
  .strictObject({
    name: z.string().min(1).describe('The view.'),
    to: z.string().min(1).describe('The table that holds what the view gives. Created with the types of the query.'),
    query: z
      .string()
      .regex(/\{table\}/, 'expected `FROM {table}` in it')
      .describe(
        'SELECT of ClickHouse; `{table}` stands for the table of the loader. Each batch goes through it once, as one block.',
      ),
    engine: z
      .enum(['MergeTree', 'ReplacingMergeTree', 'SummingMergeTree', 'AggregatingMergeTree'])
      .default('MergeTree')
      .describe('Engine of the table in `to`.'),
    ...storageShape,
  })
  .describe('A materialized view, made where it is missing. Rows that were there before do not go through it.')

export const tableOptions = {
  engine: z
    .enum(['MergeTree', 'ReplacingMergeTree', 'SummingMergeTree'])
    .optional()
    .describe(
      'Engine of the table when it is created. Default: ReplacingMergeTree for `write: merge`, else MergeTree.',
    ),
  ...storageShape,
  not_null: z
    .array(z.string().min(1))
    .default([])
    .describe('Columns that are made without Nullable, as a TTL needs it. A NULL for them is refused.'),
  nested: z
    .enum(['json', 'native'])
    .default('json')
    .describe(
      '`json`: lists, structs and maps become text, in which everything stays as it is. `native`: they become Array, Tuple and Map, which know no NULL: a record that has one is refused.',
    ),
  projections: z
    .array(
      z
        .strictObject({
          name: z.string().min(1).describe('Its name.'),
          query: z.string().min(1).describe('`SELECT … [GROUP BY …] [ORDER BY …]`, without FROM.'),
        })
        .describe('A projection.'),
    )
    .default([])
    .describe('Projections that the table gets when it is created.'),
  materialized_views: z.array(viewOption).default([]).describe('Materialized views that are fed by the table.'),
  deduplication_window: z
    .int()
    .min(1)
    .default(10_000)
    .describe(
      'Blocks that a table remembers, to refuse their repetition; a batch has one for each partition it touches. Set on tables that adflow makes, and on those that remember none.',
    ),
  cluster: z.string().min(1).optional().describe('Everything is made `ON CLUSTER` of this name.'),
  replicated: z
    .boolean()
    .default(false)
    .describe('Tables are made with Replicated engines, at the path that the server is configured for.'),
} as const

const shape = z.object(tableOptions)
export type TableOptions = z.infer<typeof shape>
export type ViewOption = z.infer<typeof viewOption>
export type Storage = Pick<ViewOption, keyof typeof storageShape>
export type Engine = ViewOption['engine']

interface Stated extends Storage {
  readonly engine: Engine
}

/** For superRefine(): what an engine has no use for, or cannot do without. */
export function engineFits(
  { engine, order_by, sum, version }: Stated,
  context: z.RefinementCtx,
  path: (string | number)[] = [],
): void {
  const issue = (key: string, message: string) => context.addIssue({ code: 'custom', path: [...path, key], message })
  if (version !== undefined && engine !== 'ReplacingMergeTree')
    issue('version', '`version` is only for ReplacingMergeTree')
  if (sum !== undefined && engine !== 'SummingMergeTree') issue('sum', '`sum` is only for SummingMergeTree')
  if (engine !== 'MergeTree' && order_by === undefined)
    issue('order_by', `${engine} needs \`order_by\`: rows that are equal there become one`)
}
