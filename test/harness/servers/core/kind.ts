/** What a kind of server is to the harness: how it is installed, started, and replaced by one that runs elsewhere. */
import type { Folder } from './folder.ts'
import type { ProcessSpec, ServerProcess } from './process.ts'

/** How clients reach a server: named strings, of which the first in `variables` is the address. */
export type Endpoint = Readonly<Record<string, string>>

export interface StartContext {
  /** For data, configuration and logs; removed with the server. */
  readonly folder: Folder
  /** A folder for the data; the file system of `diskSize` if the test wants one. At most one per server. */
  disk(): string
  /** A loopback port that nothing listens on. */
  port(): Promise<number>
  /** Starts a process that ends with the server, and waits until it is ready. */
  run(spec: ProcessSpec): Promise<ServerProcess>
  /** Awaited after its processes were started again. */
  onRestart(wait: () => Promise<void>): void
  /** Undone when the server ends, last first. */
  onEnd(undo: () => void | Promise<void>): void
}

/** What every kind can do for a server that a test owns. */
export interface PrivateOptions {
  /** Data on a file system of this size, such as `80m`, to be filled up. Needs root. */
  readonly diskSize?: string
}

export interface ServerKind<E extends Endpoint, O> {
  readonly name: string
  readonly summary: string
  /**
   * The variable of the environment for each field of the endpoint. Whoever sets the first one brings a server of their
   * own, and none is installed or started.
   */
  readonly variables: Readonly<Record<Extract<keyof E, string>, string>>
  /** Fields that a server from the environment need not name. */
  readonly defaults?: Partial<E>
  /** Puts on the machine what `start` needs; quick when it is there. @throws Error saying what to install by hand. */
  install(): Promise<void>
  start(context: StartContext, options: O): Promise<E>
}

export function defineServer<E extends Endpoint, O = object>(kind: ServerKind<E, O>): ServerKind<E, O> {
  return kind
}
