/** Where the reading of a table goes on: what its cursor holds. A pass reads what one set of transactions has left. */
import { z } from 'zod'
import { AdflowError } from '../../../core/errors.ts'

const number = z.string().regex(/^\d+$/)

const shape = z.object({
  v: z.literal(1),
  /** Of the cluster: transactions are numbered anew in another one. */
  system: number,
  /** Transactions before this one are read; those of the pass, where it was not ended, up to `to`. */
  read: number.optional(),
  /** The pass that was not ended. */
  pass: z
    .object({
      to: number,
      /** The table, or its partition: its oid and its file. What is rewritten has its rows in other places. */
      leaf: number,
      file: z.string(),
      /** Rows before this place are read. */
      tid: z.string().regex(/^\(\d+,\d+\)$/),
      /** Lowest value of the cursor that is looked at. */
      above: z.string().optional(),
      /** Highest value of the cursor. */
      high: z.string().optional(),
      /** It goes on in another snapshot than it began in. */
      cut: z.boolean(),
    })
    .optional(),
  high: z.string().optional(),
  /** The last pass was cut: what was changed meanwhile may be anywhere. */
  whole: z.boolean().optional(),
})

export type TableState = Readonly<z.infer<typeof shape>>
export type TablePass = NonNullable<TableState['pass']>

/** @throws AdflowError SOURCE_CHANGED where the cursor is of another kind of source, or of another version */
export function parseTableState(cursor: string | undefined, origin: string): TableState | undefined {
  if (cursor === undefined) return undefined
  try {
    return shape.parse(JSON.parse(cursor))
  } catch (error) {
    throw new AdflowError('SOURCE_CHANGED', `the checkpoint has a cursor for ${origin} that this version cannot read`, {
      cause: error,
      hint: 'the lane was read by another version, or its source had another type; `adflow state rewind --reload` reads it anew',
    })
  }
}
