/** One connection to an SFTP server, on which requests go out side by side. It is made when it is needed, and anew when it broke. */
import { readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { homedir } from 'node:os'
import { join, resolve } from 'node:path'
import type SftpClient from 'ssh2-sftp-client'
import { AdflowError } from '../../core/errors.ts'
import { registerSecret } from '../../core/job/secrets.ts'
import { explainSftp } from './errors.ts'
import { algorithmsOf, fingerprintOf, type KnownKey, keysOfHost, verdictOf } from './known-hosts.ts'
import type { SftpOptions } from './options.ts'

const PORT = 22
const CLOSE_MS = 2000

export type Wrapper = Awaited<ReturnType<SftpClient['connect']>>

export interface SftpAddress {
  readonly host: string
  readonly port: number
  readonly username: string
}

export function addressOf({ url }: Pick<SftpOptions, 'url'>): SftpAddress {
  const { hostname, port, username } = new URL(url)
  const host = hostname.replace(/^\[|\]$/g, '')
  return { host, port: port === '' ? PORT : Number(port), username: decodeURIComponent(username) }
}

interface Open {
  readonly client: SftpClient
  readonly wrapper: Wrapper
  readonly socket: Socket
  /** What to tell requests that are under way when the connection is lost. */
  readonly waiting: Set<() => void>
}

export class SftpSession {
  readonly #options: SftpOptions
  readonly #baseDir: string
  #open: Promise<Open> | undefined
  /** The newest. */
  #socket: Socket | undefined
  /** Told of each answer, with the bytes that it has of a file. */
  heard: ((bytes: number) => void) | undefined

  constructor(options: SftpOptions, baseDir: string) {
    this.#options = options
    this.#baseDir = baseDir
    for (const secret of [options.password, options.passphrase]) if (secret !== undefined) registerSecret(secret)
  }

  /** One request. The connection is given up where it stays silent; every other request on it fails too. */
  async ask<T>(
    request: (wrapper: Wrapper, answer: (error: Error | null | undefined, value: T) => void) => void,
  ): Promise<T> {
    const { socket, waiting, wrapper } = await this.#connected()
    const { promise, resolve, reject } = Promise.withResolvers<T>()
    const { timeout } = this.#options
    const lost = () => reject(new Error('the connection was lost'))
    const silent = setTimeout(() => {
      reject(new Error(`no answer within ${timeout / 1000} s`))
      socket.destroy()
    }, timeout)
    waiting.add(lost)
    try {
      if (socket.destroyed) lost()
      else request(wrapper, (error, value) => (error ? reject(error) : resolve(value)))
      const value = await promise
      this.heard?.(typeof value === 'number' ? value : 0)
      return value
    } finally {
      clearTimeout(silent)
      waiting.delete(lost)
    }
  }

  /** Nothing is waited for any more: what is under way fails, a connection that is being made too. */
  abandon(): void {
    this.#socket?.destroy()
  }

  async close(): Promise<void> {
    if (this.#socket?.connecting === true) this.abandon()
    const open = await this.#open?.catch(() => undefined) // it never opened
    this.#open = undefined
    if (open === undefined) return
    const given = setTimeout(() => open.socket.destroy(), CLOSE_MS)
    // What it has to say of a connection that is going anyway is of no use.
    await open.client.end().catch(() => undefined)
    clearTimeout(given)
    open.socket.destroy()
  }

  async #connected(): Promise<Open> {
    this.#open ??= this.#connect()
    try {
      const open = await this.#open
      if (!open.socket.destroyed) return open
    } catch (error) {
      this.#open = undefined
      throw error
    }
    this.#open = this.#connect()
    return this.#connected()
  }

  async #connect(): Promise<Open> {
    const { default: Client } = await import('ssh2-sftp-client')
    const { host, port, username } = addressOf(this.#options)
    const { connect_timeout: readyTimeout, passphrase, password, private_key: key } = this.#options
    const known = this.#options.host_key === undefined ? this.#knownKeys(host, port) : undefined
    const privateKey = key === undefined ? undefined : this.#read(key)
    const nothing = () => undefined
    const client = new Client('adflow', { error: nothing, end: nothing, close: nothing })
    const socket = connect({ host, port })
    this.#socket = socket
    socket.setNoDelay(true)
    socket.on('error', nothing) // the client listens too, and says it
    let refusal: AdflowError | undefined
    const algorithms = known === undefined ? [] : algorithmsOf(known)
    try {
      const wrapper = await client.connect({
        sock: socket,
        username,
        readyTimeout,
        ...(password === undefined ? {} : { password }),
        ...(privateKey === undefined ? {} : { privateKey }),
        ...(passphrase === undefined ? {} : { passphrase }),
        ...(algorithms.length === 0 ? {} : { algorithms: { serverHostKey: algorithms as never } }),
        hostVerifier: (shown: Buffer) => {
          refusal = this.#refusalOf(shown, known)
          return refusal === undefined
        },
      })
      const waiting = new Set<() => void>()
      socket.once('close', () => {
        for (const lost of waiting) lost()
      })
      return { client, wrapper, socket, waiting }
    } catch (error) {
      socket.destroy()
      throw refusal ?? explainSftp(error, `connect to ${host}:${port} as ${username}`)
    }
  }

  /** undefined: it is the server that is meant. */
  #refusalOf(shown: Buffer, known: readonly KnownKey[] | undefined): AdflowError | undefined {
    const { host, port } = addressOf(this.#options)
    const fingerprint = fingerprintOf(shown)
    const denied = (message: string, hint: string) => new AdflowError('STORE_DENIED', message, { hint })
    if (known === undefined) {
      if (fingerprint === this.#options.host_key) return undefined
      return denied(
        `${host}:${port} shows the key ${fingerprint}, not the one in \`host_key\`: it may not be the server that it says it is`,
        'ask its owner whether the key was changed; then put the new fingerprint into `host_key`',
      )
    }
    const file = this.#knownHosts()
    switch (verdictOf(known, shown)) {
      case 'known':
        return undefined
      case 'revoked':
        return denied(
          `${host}:${port} shows the key ${fingerprint}, which ${file} has revoked`,
          'ask its owner for the new key',
        )
      case 'changed':
        return denied(
          `${host}:${port} shows the key ${fingerprint}, not the one in ${file}: it may not be the server that it says it is`,
          `ask its owner whether the key was changed; then replace its line in ${file}`,
        )
      case 'unknown':
        return denied(
          `${file} has no key of ${host}:${port}, which shows ${fingerprint}`,
          `compare it with what its owner says, then add it: \`ssh-keyscan -p ${port} ${host} >> ${file}\`, or set \`host_key\``,
        )
    }
  }

  #knownHosts(): string {
    const { known_hosts: file } = this.#options
    return file === undefined ? join(homedir(), '.ssh', 'known_hosts') : resolve(this.#baseDir, file)
  }

  /** A file that is not there knows nobody. */
  #knownKeys(host: string, port: number): readonly KnownKey[] {
    const file = this.#knownHosts()
    try {
      return keysOfHost(readFileSync(file, 'utf8'), host, port)
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw unreadable(file, error)
    }
  }

  #read(path: string): Buffer {
    const file = resolve(this.#baseDir, path)
    try {
      return readFileSync(file)
    } catch (error) {
      throw unreadable(file, error)
    }
  }
}

function unreadable(file: string, error: unknown): AdflowError {
  return new AdflowError('SECRET_UNREADABLE', `cannot read ${file}: ${(error as Error).message}`, { cause: error })
}
