/** Where a source that is read in order goes on: what its cursor holds. */
import { z } from 'zod'
import { AdflowError } from '../../core/errors.ts'

const shape = z.object({
  v: z.literal(1),
  /** What it is ordered by. */
  by: z.array(z.string()),
  /** The pass that was not ended; else the source is at its end here. */
  pass: z
    .object({
      /** Highest value of the first of `by`, of the passes before. */
      since: z.string().optional(),
      /** Keys of its rows that may come again. */
      known: z.array(z.string()).optional(),
    })
    .optional(),
  /** Values of `by` in the last row that is had: of the pass, or of all of them. */
  after: z.array(z.string()).optional(),
  /** Highest value of the first of `by`. */
  high: z.string().optional(),
  /** Keys of the passes before that may come again. */
  known: z.array(z.string()).optional(),
})

export type SourcePlace = Readonly<z.infer<typeof shape>>

/** @throws AdflowError SOURCE_CHANGED where the cursor is of another order, another kind of source, or another version */
export function parsePlace(cursor: string | undefined, by: readonly string[], origin: string): SourcePlace {
  if (cursor === undefined) return { v: 1, by: [...by] }
  const place = shape.safeParse(parsed(cursor)).data
  if (place !== undefined && place.by.join('\n') === by.join('\n')) return place
  throw new AdflowError(
    'SOURCE_CHANGED',
    place === undefined
      ? `the checkpoint has a cursor for ${origin} that this version cannot read`
      : `${origin} was read on by ${place.by.join(', ') || 'nothing'} until now, and the job says ${by.join(', ') || 'nothing'}`,
    { hint: 'set the job back, or read the lane anew by `adflow state rewind --reload`' },
  )
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}
