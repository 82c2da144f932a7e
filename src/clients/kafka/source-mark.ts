/** What is kept with a position in a partition: by it a topic that was made anew, and a range that has changed, are noticed. */
import { z } from 'zod'
import { AdflowError } from '../../core/errors.ts'

const markSchema = z.object({
  v: z.literal(1),
  /** Id of the topic: another topic of the same name has another one. */
  topic: z.string(),
  /** The range that ends at the position, and what was in it. */
  from: z.string(),
  to: z.string(),
  digest: z.string(),
  records: z.int(),
  /** Offset of the first record that was asked for, where that is not `from`: what lay before it was not there, or not wanted. */
  begin: z.string().optional(),
})

export type SourceMark = z.infer<typeof markSchema>

export function markText(mark: Omit<SourceMark, 'v'>): string {
  return JSON.stringify({ v: 1, ...mark })
}

/** undefined: there is none, or a later version wrote it. */
export function parseSourceMark(mark: string | undefined): SourceMark | undefined {
  if (mark === undefined) return undefined
  try {
    return markSchema.safeParse(JSON.parse(mark)).data
  } catch {
    return undefined
  }
}

export function topicChanged(lane: string, at: bigint, before: string, now: string): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `the topic of ${lane} was deleted and made anew (id ${before}, now ${now}): offset ${at} means another record there`,
    {
      hint: 'read the new topic from its start: `adflow state rewind` to 0 with `--reload`',
    },
  )
}

export function rangeChanged(lane: string, { from, to, records, digest }: SourceMark, now: string): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `offsets [${from}, ${to}) of ${lane} had ${records} records (${digest}) when they were planned, and other ones now (${now}): compaction has removed some, or the topic was written to by other means`,
    {
      hint: `no store is known to have the range as it was; \`adflow state set … ${lane} ${from} --force\` drops the plan, and the range is read as it is now`,
    },
  )
}

/** `planned`: the end of a range that was planned before a crash, where the loss lies in one. */
export function recordsLost(lane: string, from: bigint, to: bigint, planned?: string): AdflowError {
  const goOn = `go on behind the loss with \`adflow state set … ${lane} ${to} --force\``
  return new AdflowError(
    'SOURCE_CHANGED',
    `offsets [${from}, ${to}) of ${lane} are lost: the partition begins at ${to} now, by its retention or by DeleteRecords`,
    {
      hint:
        planned === undefined
          ? `raise the retention of the topic; ${goOn}, or with \`on_lost: continue\``
          : `the range was under way when a run died: where the stores have it, go on behind it (${planned}); where none has, ${goOn}`,
      details: { lane, lost: { from: String(from), to: String(to) } },
    },
  )
}

export function endMoved(lane: string, at: bigint, end: bigint): AdflowError {
  return new AdflowError(
    'SOURCE_CHANGED',
    `${lane} ends at offset ${end}, and was read up to ${at} before: an unclean election of a leader has cut records off`,
    {
      hint: `what stands between the two in the stores is in the topic no more; \`adflow state set … ${lane} ${end} --force\` goes on from its end`,
    },
  )
}
