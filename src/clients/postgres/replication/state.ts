/** Where the reading of a slot goes on: what its cursor holds. */
import { z } from 'zod'
import { AdflowError } from '../../../core/errors.ts'

const lsn = z.string().regex(/^[0-9A-F]+\/[0-9A-F]+$/)

const shape = z.object({
  v: z.literal(1),
  kind: z.literal('changes'),
  /** Of the cluster. */
  system: z.string(),
  slot: z.string(),
  /** Transactions that were committed before it are read. */
  lsn,
  /** Of the next transaction so many changes are read. */
  inside: z.object({ xid: z.int(), changes: z.int() }).optional(),
  /** The tables as they were at `lsn` are being read. */
  snapshot: z
    .object({
      /** What the snapshot shows, for when it is gone: `xmin:xmax:xip,…`. */
      shows: z.string(),
      /** Table or partition: oid, file and the place in it before which all is read. */
      leaf: z.string(),
      file: z.string(),
      tid: z.string(),
    })
    .optional(),
})

export type ChangesState = Readonly<z.infer<typeof shape>>

/** @throws AdflowError SOURCE_CHANGED where the cursor is of another kind of source, or of another version */
export function parseChangesState(cursor: string | undefined, origin: string): ChangesState | undefined {
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
