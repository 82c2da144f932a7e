/** Components that do nothing, with options of every shape that job files must check. */
import { z } from 'zod'
import { defineConsumer, defineExtractor, defineLoader, defineStep } from '../../../src/core/define.ts'
import { byteSize, duration } from '../../../src/core/job/units.ts'
import { loadRegistry, type Registry } from '../../../src/core/registry.ts'

const sample = { columns: {}, rows: [], expect: [] }
const unused = (): never => {
  throw new Error('a job file is read without its components')
}

export const files = defineExtractor({
  summary: 'Reads files.',
  options: z.object({
    paths: z.array(z.string().min(1)).min(1).describe('Globs.'),
    format: z.enum(['ndjson', 'csv', 'parquet']).default('ndjson').describe('Format.'),
    header: z.boolean().default(true).describe('First line names the columns.'),
    port: z.int().min(1).max(65_535).optional().describe('Port.'),
    window: duration.prefault('15m').describe('Window.'),
    max_size: byteSize.optional().describe('Size.'),
    cursor: z
      .strictObject({ field: z.string().describe('Field.') })
      .optional()
      .describe('Cursor.'),
  }),
  example: { paths: ['*.ndjson'] },
  create: unused,
})

export const duckdb = defineLoader({
  summary: 'Loads into DuckDB.',
  options: z.strictObject({
    table: z.string().min(1).describe('Table.'),
    write: z.enum(['append', 'merge']).default('append').describe('Disposition.'),
  }),
  example: { table: 'events' },
  create: unused,
})

const webhook = defineConsumer({
  summary: 'Sends requests.',
  options: z.strictObject({
    url: z.string().min(1).describe('Where.'),
    secret: z.string().optional().describe('Secret.'),
  }),
  example: { url: 'https://x.example' },
  create: unused,
})

export const derive = defineStep({
  summary: 'Adds columns.',
  options: z.record(z.string(), z.string()).describe('Column → expression.'),
  example: { spend: 'cost / 2' },
  sample,
  compile: unused,
})

const filter = defineStep({
  summary: 'Keeps rows.',
  options: z.string().min(1).describe('SQL expression.'),
  example: {},
  sample,
  compile: unused,
})

const dedupe = defineStep({
  summary: 'Keeps the first of each key.',
  options: z.strictObject({
    key: z.array(z.string()).min(1).describe('Key.'),
    within: duration.optional().describe('How long.'),
  }),
  example: { key: ['id'] },
  sample,
  compile: unused,
})

export const aggregate = defineStep({
  summary: 'Groups rows.',
  options: z.strictObject({
    id: z.string().optional().describe('Name.'),
    select: z.record(z.string(), z.string()).describe('Columns.'),
  }),
  example: { select: { n: 'count(*)' } },
  sample,
  compile: unused,
})

export function fakeRegistry(): Promise<Registry> {
  const step = { derive, filter, dedupe, aggregate }
  return loadRegistry({
    root: import.meta.dirname,
    extra: { extractor: { files }, loader: { duckdb }, step, consumer: { webhook } },
  })
}

/** A job with all that is needed and no more; `parts` replaces or adds sections by their text. */
export function jobText(parts: Readonly<Record<string, string>> = {}): string {
  const sections: Record<string, string> = {
    version: 'version: 1',
    name: 'name: ad_events',
    extract: 'extract:\n  ads: { type: files, paths: [ads.ndjson] }',
    contract: 'contract:\n  columns: { event_id: bigint, event_time: timestamp, cost: bigint }',
    load: 'load:\n  warehouse: { type: duckdb, table: events }',
    ...parts,
  }
  return `${Object.values(sections)
    .filter((text) => text !== '')
    .join('\n')}\n`
}
