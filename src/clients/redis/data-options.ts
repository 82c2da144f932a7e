/** Options that say what a row becomes. */
import { z } from 'zod'
import { duration } from '../../core/job/units.ts'
import { KINDS } from './part-script.ts'

const expression = z
  .string()
  .min(1)
  .meta({ examples: ["'spend:' || campaign_id"] })

const increment = z.union([
  expression,
  z.strictObject({
    of: expression.describe('SQL expression over the columns: an integer, or a DECIMAL.'),
    scale: z
      .int()
      .min(0)
      .max(18)
      .describe('Digits after the point that are kept: the counter holds the value times 10^scale, exactly.'),
  }),
])

export const dataShape = {
  as: z
    .enum(KINDS)
    .default('hash')
    .describe(
      'What a row becomes: a `hash`, a `string`, a member of a `sorted_set`, a part of a `counter`, an entry of a `stream`.',
    ),
  prefix: z
    .string()
    .regex(/^(?:[^{}]|\{[^{}]+\}[^{}]*$)*$/, 'braces in a prefix stand for a whole hash tag: `{ads}:`')
    .default('')
    .describe('Stands before every key, and before the keys of adflow itself.'),
  key: expression.describe('SQL expression over the columns that gives the key, behind `prefix`.'),
  fields: z
    .array(z.string().min(1))
    .min(1)
    .optional()
    .describe('Columns that a `hash`, a `stream` entry, or the JSON of a `string` gets. Default: all.'),
  value: expression.optional().describe('SQL expression of the value of a `string`. Default: the row as JSON.'),
  member: expression.optional().describe('SQL expression of the member of a `sorted_set`.'),
  score: expression.optional().describe('SQL expression of its score, a number that a double holds exactly.'),
  increment: increment
    .optional()
    .describe(
      'By what a row raises a `counter`: an expression that gives an integer, or `of` and `scale` of a decimal.',
    ),
  increments: z
    .record(z.string().min(1), increment)
    .refine((fields) => Object.keys(fields).length > 0, 'name at least one field')
    .optional()
    .describe(
      'Instead of `increment`: field → by what a row raises it. The counters of a key are then the fields of a hash.',
    ),
  ttl: duration.optional().describe('How long a key lives after it was last written. Default: for ever.'),
  max_length: z
    .int()
    .min(1)
    .optional()
    .describe('About so many entries stay in a `stream`; the oldest go. Default: all.'),
} as const

export type DataOptions = z.infer<z.ZodObject<typeof dataShape>>
export type Increment = z.infer<typeof increment>

/** Options → the kinds that they are for, and those that cannot be without. */
const BELONGS: Readonly<Record<string, { readonly to: readonly string[]; readonly needed?: true }>> = {
  fields: { to: ['hash', 'string', 'stream'] },
  value: { to: ['string'] },
  member: { to: ['sorted_set'], needed: true },
  score: { to: ['sorted_set'], needed: true },
  increment: { to: ['counter'] },
  increments: { to: ['counter'] },
  max_length: { to: ['stream'] },
}

/** For superRefine(). */
export function optionsGoWithKind(options: DataOptions, context: z.RefinementCtx): void {
  const wrong = (path: string, message: string) => context.addIssue({ code: 'custom', path: [path], message })
  for (const [name, { to, needed }] of Object.entries(BELONGS)) {
    const there = options[name as keyof DataOptions] !== undefined
    if (there && !to.includes(options.as)) wrong(name, `\`${name}\` is not for \`as: ${options.as}\``)
    if (needed && !there && to.includes(options.as)) wrong(name, `\`as: ${options.as}\` needs a \`${name}\``)
  }
  if (options.as === 'counter' && (options.increment === undefined) === (options.increments === undefined))
    wrong('increment', '`as: counter` needs either `increment` or `increments`')
  if (options.value !== undefined && options.fields !== undefined)
    wrong('fields', '`fields` are those of the JSON of a row; `value` takes its place')
}
