/** CloudEvents 1.0 in binary mode: what is the same for all events of a batch. */
import type { BatchInfo } from '../../core/contracts.ts'
import type { KafkaHeader } from './record-batch.ts'
import type { RecordOptions } from './record-options.ts'

export interface FixedHeaders {
  readonly headers: readonly KafkaHeader[]
  /** Name of the header with the token and the number of the row. */
  readonly id: string | undefined
}

export function fixedHeaders(
  events: RecordOptions['cloudevents'],
  { clock, job, source }: Pick<BatchInfo, 'clock' | 'job' | 'source'>,
): FixedHeaders {
  if (events === undefined) return { headers: [], id: undefined }
  const headers = {
    'content-type': events.content_type,
    ce_specversion: '1.0',
    ce_source: events.source ?? `/adflow/${encodeURIComponent(job)}/${encodeURIComponent(source)}`,
    ce_type: events.type,
    ...(events.time === undefined ? { ce_time: clock } : {}),
  }
  return {
    headers: Object.entries(headers).map(([name, value]) => ({ name: Buffer.from(name), value: Buffer.from(value) })),
    id: 'ce_id',
  }
}
