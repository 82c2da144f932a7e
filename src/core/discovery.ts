/**
 * The contract behind `adflow discover`: what a system offers to whoever may read from it. Nothing is changed there, and no record is
 * read; only the options by which the system is reached are needed.
 */
import type { z } from 'zod'
import type { ComponentEnv } from './contracts.ts'
import type { ErrorCode } from './errors.ts'

type OfferKind = 'file' | 'list' | 'object' | 'table' | 'topic' | 'index' | 'metric' | 'method'

export interface Offer {
  readonly kind: OfferKind
  /** As the system calls it. */
  readonly name: string
  /** What the system says, which may be an estimate; undefined where it does not say. */
  readonly records?: number | undefined
  readonly bytes?: number | undefined
  /** What else is known of it, as half a sentence. */
  readonly about?: string | undefined
  /** Options with which the extractor reads it, beside those by which the system is reached; as they stand in a job file. */
  readonly options: Readonly<Record<string, unknown>>
}

export interface DiscoverEnv extends ComponentEnv {
  /** Aborted at the end of the time that all of it may take. */
  readonly signal: AbortSignal
}

export interface Discovery {
  /** The options by which the system is reached. Others are passed over. */
  readonly connection: z.ZodType
  /** Options that have defaults, and are found out better where none of them is given: the first offer says which. */
  readonly open: readonly string[]
  /** In the order of their names, as they come. Throws AdflowError SOURCE_… where the system cannot be asked. */
  offers(connection: unknown, env: DiscoverEnv): AsyncIterable<Offer>
}

/** Gives `offers` the type of what `connection` accepts; the options of a job are a superset of that. */
export function discovery<Schema extends z.ZodType>(
  connection: Schema,
  offers: (connection: z.infer<Schema>, env: DiscoverEnv) => AsyncIterable<Offer>,
  open: readonly string[] = [],
): Discovery {
  return { connection, open, offers: (chosen, env) => offers(chosen as z.infer<Schema>, env) }
}

interface Offers {
  readonly offers: readonly Offer[]
  /** There are more than were asked for. */
  readonly more: boolean
}

export interface DiscoveredSource extends Offers {
  /** Its id in the job; null: it is in none. */
  readonly source: string | null
  readonly type: string
  readonly error: { readonly code: ErrorCode; readonly message: string; readonly hint: string | null } | null
}

/** The first of those that `wanted` takes. Rejects as `offers` does, and with the reason of the signal. */
export async function collectOffers(
  { offers }: Discovery,
  connection: unknown,
  env: DiscoverEnv,
  limit: number,
  wanted: (offer: Offer) => boolean = () => true,
): Promise<Offers> {
  const found: Offer[] = []
  for await (const offer of offers(connection, env)) {
    if (!wanted(offer)) continue
    if (found.length === limit) return { offers: found, more: true }
    found.push(offer)
  }
  env.signal.throwIfAborted()
  return { offers: found, more: false }
}
