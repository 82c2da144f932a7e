/** Indexes as a job states them. */
import { z } from 'zod'
import { ident } from '../../engine/sql-text.ts'

export const indexOption = z
  .strictObject({
    columns: z.array(z.string().min(1)).min(1).describe('Columns of the index, in order.'),
    type: z
      .enum(['btree', 'hash', 'brin', 'gin', 'full_text'])
      .default('btree')
      .describe(
        '`brin` is small and fits columns that grow with time; `gin` is for jsonb; `full_text` searches words of text columns.',
      ),
    language: z
      .string()
      .regex(/^[a-z_]+$/)
      .default('simple')
      .describe('Text search configuration of `full_text`.'),
    unique: z.boolean().default(false).describe('Refuses a second row with the same values. Only for `btree`.'),
    name: z.string().min(1).optional().describe('Name of the index. Default: made of table, columns and type.'),
  })
  .describe('An index.')

export type IndexOption = z.infer<typeof indexOption>

/** Made with the table; an index that is there already is left alone. */
export function indexSql(
  { schema, table }: { readonly schema: string; readonly table: string },
  { columns, language, name, type, unique }: IndexOption,
  index: number,
): string {
  const own = name ?? `${table}_${columns.join('_')}_${type}`.slice(0, 55) + (index === 0 ? '' : `_${index}`)
  const on =
    type === 'full_text'
      ? `USING gin (to_tsvector('${language}', ${columns.map((column) => `coalesce(${ident(column)}, '')`).join(" || ' ' || ")}))`
      : `USING ${type} (${columns.map(ident).join(', ')})`
  return `CREATE ${unique ? 'UNIQUE ' : ''}INDEX IF NOT EXISTS ${ident(own)} ON ${ident(schema)}.${ident(table)} ${on}`
}
