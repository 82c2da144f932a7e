/** What loaders into tables have in common: how rows are written, and which names are adflow's own. */
import { z } from 'zod'

/** A replace fills its table under the name of the target and this, until its run is complete. */
export const NEXT_TABLE = '__adflow_next'

export const tableShape = {
  table: z
    .string()
    .min(1)
    .regex(/^(?!_adflow)(?!.*__adflow_next$)/, 'this name is kept for tables of adflow itself')
    .describe('The table. Created from the columns that reach the loader when it is missing.'),
  write: z
    .enum(['append', 'merge', 'replace'])
    .default('append')
    .describe(
      '`append` adds rows; `merge` updates the rows whose `key` is there already and adds the others; `replace` puts what one run has read in the place of the table, at the end of that run.',
    ),
  key: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe('Columns that identify a row. Needed by, and only for, `merge`.'),
  evolve: z
    .boolean()
    .default(true)
    .describe(
      'New columns are added to the table, and integers and decimals widened where that loses nothing. false: any difference is an error.',
    ),
  batch_column: z
    .union([z.literal(false), z.string().min(1)])
    .default('_batch')
    .describe(
      'Column (bigint) with the number of the batch that wrote the row: by it `trace`, `prove` and `reconcile` know whence a row came. false: no such column.',
    ),
} as const

/** For superRefine(): a key is there if, and only if, rows are merged by it. */
export function keyGoesWithMerge(
  { write, key }: { readonly write: string; readonly key?: readonly string[] | undefined },
  context: z.RefinementCtx,
): void {
  if ((write === 'merge') === (key !== undefined)) return
  const message = write === 'merge' ? '`write: merge` needs a `key`' : '`key` is only for `write: merge`'
  context.addIssue({ code: 'custom', path: ['key'], message })
}
