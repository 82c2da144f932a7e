/** Options that say what a record is made of. */
import { z } from 'zod'

const expression = z.string().min(1)

/** Headers of a CloudEvent in binary mode. */
const EVENT_HEADER = /^(?:ce_|content-type$)/i

export const recordShape = {
  key: expression
    .optional()
    .describe(
      'SQL expression over the columns. Records with the same key go to the same partition, the one that the producer of Apache Kafka chooses. Without it, and where it is NULL, partitions are filled one after the other.',
    ),
  value: expression
    .optional()
    .describe(
      'SQL expression over the columns. Text, JSON and BLOB go as they are, anything else as JSON; NULL makes a tombstone. Default: the whole row as a JSON object.',
    ),
  headers: z
    .record(z.string().min(1), expression)
    .default({})
    .describe('Name → SQL expression over the columns. Where it is NULL the record has no such header.'),
  timestamp: expression
    .optional()
    .describe(
      'SQL expression over the columns: a timestamp, or milliseconds since 1970. Default, and where it is NULL: when the batch is sent.',
    ),
  cloudevents: z
    .strictObject({
      type: z.string().min(1).describe('`ce_type` of every event, such as `com.example.ads.click`.'),
      source: z
        .string()
        .min(1)
        .optional()
        .describe('`ce_source` of every event, a URI reference. Default: `/adflow/<job>/<source>`.'),
      subject: expression.optional().describe('SQL expression over the columns: `ce_subject`.'),
      time: expression
        .optional()
        .describe('SQL expression over the columns, a timestamp: `ce_time`. Default: the clock of the batch.'),
      content_type: z
        .string()
        .min(1)
        .default('application/json')
        .describe('Header `content-type` of every event: what the value is.'),
    })
    .optional()
    .describe(
      'Each record is a CloudEvent 1.0 in binary mode. `ce_id` is the token of the batch and the number of the row in it: the same however often the batch is repeated.',
    ),
} as const

export type RecordOptions = z.infer<z.ZodObject<typeof recordShape>>

/** For superRefine(). */
export function headersGoWithEvents({ cloudevents, headers }: RecordOptions, context: z.RefinementCtx): void {
  if (cloudevents === undefined) return
  for (const name of Object.keys(headers))
    if (EVENT_HEADER.test(name))
      context.addIssue({
        code: 'custom',
        path: ['headers', name],
        message: `\`cloudevents\` writes ${name} itself`,
      })
}
