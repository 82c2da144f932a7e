/** A remote place where objects are published: a prefix of a bucket, a folder of a server. Types only. */
import type { Logger } from 'pino'
import type { FileDigest } from './follow-file.ts'

/** A document, and what tells it from any other that ever stood there. */
export interface RemoteDocument {
  readonly text: string
  readonly version: string
}

/** A file on this machine that becomes an object. */
export interface LocalObject extends FileDigest {
  readonly file: string
}

/** What tells whose an unfinished object is. */
export interface Leftovers {
  /** true: an object that this loader could have written. */
  owns(key: string): boolean
  /** true: it belongs to a batch that this loader began and never published, or that is published already. */
  underWay(key: string): Promise<boolean>
  readonly log: Logger
}

export interface PutContext {
  /** true: nothing is known to be there, and nobody else is expected to put it. */
  readonly fresh: boolean
  /** Throws where another attempt has taken the batch over. Asked after a look at what is there and before it is replaced. */
  held(): Promise<void>
  readonly signal: AbortSignal
}

/**
 * Keys are relative to the place, with `/`, and never leave it. Whatever resolves is durable, as far as the server lets one know.
 * Whatever rejects is an AdflowError that says which key of which place; STORE_UNAVAILABLE where trying again may help.
 */
export interface RemotePlace {
  /** For people and lineage: `s3://bucket/prefix/key`. */
  nameOf(key: string): string
  /** Once per run, before anything is written. Makes the place where that is wanted, and clears up what was interrupted. */
  open(leftovers: Leftovers): Promise<void>
  /** A document of a few kB. undefined: nothing is there. */
  read(key: string): Promise<RemoteDocument | undefined>
  /** Writes a document where there still is what `was` names (undefined: nothing). Returns its version; undefined: something
   *  else is there, and nothing was written. Of several writers at most one gets a version. */
  write(key: string, text: string, was: string | undefined): Promise<string | undefined>
  /** Names of what lies directly under a folder and begins with `prefix`. */
  list(folder: string, prefix: string): Promise<readonly string[]>
  /** undefined: nothing is there. */
  bytesOf(key: string): Promise<number | undefined>
  /** The bytes that are there, to be read to the end; undefined: nothing is there. */
  bytes(key: string): Promise<AsyncIterable<Uint8Array> | undefined>
  /** Resolved: the object has exactly these bytes. What was there with the same bytes is taken over; other bytes are replaced. */
  put(key: string, object: LocalObject, context: PutContext): Promise<void>
  /** What is not there is fine. */
  remove(key: string): Promise<void>
  close(): Promise<void>
}
