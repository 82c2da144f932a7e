/** Where the files of a source are: this machine, a bucket, a folder of a server. Lanes, formats and edges are the same for all. */
import type { AdflowError } from '../../core/errors.ts'
import type { SourceWatch } from '../../core/source-watch.ts'
import type { RandomReader } from '../../records/compression.ts'
import type { ByteSource } from '../../records/window.ts'
import type { Discovery, FileFacts, SourceFile } from './discover.ts'
import type { KnownLane } from './lanes.ts'

export interface FilePlace {
  /** What is there to read now. `known`: lanes of the checkpoint. Throws AdflowError where that cannot be told at all. */
  discover(known: readonly KnownLane[], signal?: AbortSignal): Promise<Found>
  /** The bytes of a file as `facts` found it, and no others. Throws AdflowError SOURCE_…. */
  open(file: SourceFile): Promise<OpenFile>
  /** These will be opened, most likely in this order: what is small among them may be fetched ahead. */
  expect?(files: readonly SourceFile[]): void
  /** Files keep their bytes when they get another name, and may be followed. */
  readonly renames: boolean
  /** Files in which the bytes of one that is gone may be found. */
  siblings(path: string): Promise<readonly SourceFile[]>
  /** A path as people read it. */
  nameOf(path: string): string
  /** Told what comes over the network. Set before each pass; a place on this machine needs none. */
  watch?: SourceWatch | undefined
  /** Why nothing of it can be read any more in this pass: the rest is not asked for. */
  readonly outage?: AdflowError | undefined
  close(): Promise<void>
}

export interface Found extends Discovery {
  /** For the marks of this pass: from where the next listing may begin. */
  readonly floor?: string
  /** Paths of files that are there and still written: no more is said of them. */
  readonly waiting?: readonly string[]
}

/** One file while it is read. Its facts do not change; where the file does, reading throws SOURCE_CHANGED. */
export interface OpenFile extends RandomReader {
  readonly facts: FileFacts
  /** Path on this machine; undefined: it is elsewhere. */
  readonly local: string | undefined
  /** Plain bytes from `from` on, up to where the file ended when it was opened. */
  forward(from: number): ByteSource
}
