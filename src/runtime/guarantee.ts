/** What a path from a source into a store promises, in words: never more than its weakest link does. */
import type { ReplayGuarantee } from '../core/contracts.ts'

export interface PathGuarantee {
  readonly delivery: 'exactly once' | 'at least once'
  readonly because: string
}

const OF_STORE: Readonly<Record<ReplayGuarantee, PathGuarantee>> = {
  token: {
    delivery: 'exactly once',
    because: 'the store remembers the token of each batch and refuses it the second time',
  },
  key: { delivery: 'exactly once', because: 'rows go in by key: a batch that comes again writes the same rows' },
  transaction: { delivery: 'exactly once', because: 'rows and token are one transaction of the store' },
  duplicates: {
    delivery: 'at least once',
    because: 'the store cannot tell a repeated batch: one that comes again after a crash stands there twice',
  },
}

export function pathGuarantee(source: { readonly replayable: boolean }, replay: ReplayGuarantee): PathGuarantee {
  const link = OF_STORE[replay]
  if (source.replayable) return link
  return {
    ...link,
    because: `${link.because}; the source cannot be read again, so its bytes are kept before it is told`,
  }
}
