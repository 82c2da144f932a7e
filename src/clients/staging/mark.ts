/** The mark of a position in a staged lane: where its source goes on, for when the staging folder is lost. */
import { z } from 'zod'

const shape = z.object({
  v: z.literal(1),
  /** Position at which the mark was made. */
  staged: z.int().nonnegative(),
  /** Line ends of the lane before it. */
  lines: z.int().nonnegative(),
  /** Cursor at the position; null: the source begins there. Missing inside a segment, where the source knows no place. */
  cursor: z.string().nullable().optional(),
})

export type StagedMark = Readonly<z.infer<typeof shape>>

/** undefined: none, or that of another kind of source. */
export function parseStagedMark(text: string | undefined): StagedMark | undefined {
  if (text === undefined) return undefined
  try {
    return shape.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}

export function stagedMark(mark: Omit<StagedMark, 'v'>): string {
  return JSON.stringify({ v: 1, ...mark })
}
