/** What a proof tells: the books of a window, what was looked at, and everything that does not hold. */

export interface Finding {
  /** Where it was lost: `chain` between reading and storing. */
  readonly stage: 'chain' | 'store' | 'spool' | 'quarantine' | 'source'
  /** `missing`, `extra`, `changed`, `file`, `entry` (the store's own record of the batch), `unknown` (in the store, not in the ledger),
   *  `books`, `range` (a hole between batches). */
  readonly what: 'missing' | 'extra' | 'changed' | 'file' | 'entry' | 'unknown' | 'books' | 'range'
  readonly source: string | null
  readonly lane: string | null
  readonly from: string | null
  readonly to: string | null
  readonly store: string | null
  /** Token, or the number of a batch that nobody knows. */
  readonly batch: string | null
  readonly expected: number | null
  readonly found: number | null
  /** Rows that it stands for, at least. */
  readonly rows: number
  readonly message: string
}

/** read = passed + quarantined + filtered + deduplicated; passed = loaded + owed, for a store that takes rows as they passed. */
export interface BookLine {
  readonly source: string
  readonly lane: string
  readonly store: string
  readonly batches: number
  readonly read: number
  readonly loaded: number
  readonly quarantined: number
  readonly filtered: number
  readonly deduplicated: number
  readonly owed: number
  /** Of the loaded rows: replaced by later ones of their key. */
  readonly replaced: number
  /** Rows of a set-wise output stand for no records: `rows` are what was written, and `loaded` the records behind them. */
  readonly rows: number
  readonly unaccounted: number
}

export interface CheckedStore {
  readonly store: string
  /** `rows and digests`, or why not. */
  readonly checked: string
  /** Batches of the window that it was given. */
  readonly batches: number
  readonly rows: number
  readonly digests: number
  /** Batches whose digest could not be compared: written by another engine, or before there were digests. */
  readonly unverified: number
}

export interface Certificate {
  readonly schema_version: 1
  readonly job: string
  readonly job_digest: string
  readonly window: { readonly from: string | null; readonly to: string | null }
  readonly made_at: string
  readonly adflow: string
  readonly ledger: {
    /** `<number>:<hash>`: with `adflow audit verify --head` this certificate can be checked later. */
    readonly head: string
    readonly events: number
    readonly segments: number
  }
  readonly status: 'proven' | 'differences' | 'gaps'
  readonly unaccounted: number
  readonly books: readonly BookLine[]
  readonly stores: readonly CheckedStore[]
  readonly quarantine: { readonly batches: number; readonly records: number }
  readonly findings: readonly Finding[]
  /** Places of sources that could not be read, and still are not. */
  readonly gaps: readonly {
    readonly source: string
    readonly lane: string
    readonly from: string
    readonly code: string
    readonly message: string
  }[]
  readonly exit: number
}
