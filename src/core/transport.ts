/** The contract of a lineage transport: it takes the lineage events of a run somewhere. Types only. */
import type { z } from 'zod'
import type { ComponentEnv } from './contracts.ts'
import type { Diagnosable } from './diagnosis.ts'

export interface LineageTransport {
  /** Called with one event after the other, the next when the one before has settled. Resolved: the other side has it for good.
   *  Rejected: it may have it or not; the event is sent again later where that matters, so that it may arrive twice. Must end
   *  soon after `signal` is aborted. */
  send(event: Readonly<Record<string, unknown>>, context: { readonly signal: AbortSignal }): Promise<void>
  /** Harmless when called twice. */
  close(): Promise<void>
}

export interface TransportDefinition<Options = unknown> extends Diagnosable<Options> {
  readonly kind: 'transport'
  /** One sentence, for lists. */
  readonly summary: string
  /** Markdown for the reference page. */
  readonly description?: string
  readonly options: z.ZodType<Options>
  /** Options as they stand in a job file. */
  readonly example: Readonly<Record<string, unknown>>
  /** Must not wait for the other side, nor fail where it is down. */
  create(options: Options, env: ComponentEnv): LineageTransport
}
