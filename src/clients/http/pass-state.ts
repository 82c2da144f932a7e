/** Where an HTTP source goes on: what its cursor holds. A pass is one way from the first page to the last. */
import { z } from 'zod'
import { AdflowError } from '../../core/errors.ts'
import type { PageAt } from './paging.ts'

const pageAt: z.ZodType<PageAt> = z.lazy(() =>
  z.object({
    cursor: z.string().optional(),
    offset: z.number().optional(),
    page: z.number().optional(),
    url: z.string().optional(),
    behind: z.union([pageAt, z.literal('end')]).optional(),
  }),
) as z.ZodType<PageAt>

const shape = z.object({
  v: z.literal(1),
  /** The pass that was not ended. */
  pass: z
    .object({
      at: pageAt,
      pages: z.number(),
      /** ISO 8601 UTC: when it began. */
      until: z.string(),
      since: z.string().optional(),
      /** Highest value of the field so far. */
      high: z.string().optional(),
      /** Keys of its records that may come again. */
      known: z.array(z.string()).optional(),
    })
    .optional(),
  /** Highest value of the field, of all passes that were ended. */
  high: z.string().optional(),
  /** `again: added`: the last page, and what of it was taken. */
  last: z.object({ at: pageAt, records: z.number(), digest: z.string() }).optional(),
  /** Of what the server said of the first page of the last pass. */
  validators: z
    .object({ request: z.string(), etag: z.string().optional(), modified: z.string().optional() })
    .optional(),
  /** Digest of the one answer of the last pass, where there are no pages. */
  answer: z.string().optional(),
  /** Keys that may come again. */
  known: z.array(z.string()).optional(),
})

export type PassState = Readonly<z.infer<typeof shape>>

/** @throws AdflowError SOURCE_CHANGED where the cursor is of another kind of source, or of another version */
export function parsePassState(cursor: string | undefined, origin: string): PassState {
  if (cursor === undefined) return { v: 1 }
  try {
    return shape.parse(JSON.parse(cursor))
  } catch (error) {
    throw new AdflowError('SOURCE_CHANGED', `the checkpoint has a cursor for ${origin} that this version cannot read`, {
      cause: error,
      hint: 'the lane was read by another version, or its source had another type; `adflow state rewind --reload` reads it anew',
    })
  }
}
