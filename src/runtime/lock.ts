/**
 * One run per job and state directory. On Linux the lock is an abstract unix socket: the kernel releases it with the
 * process, however it dies, so there is no stale lock to reason about. Whoever finds it held can ask it who holds it.
 */
import { hash } from 'node:crypto'
import { realpathSync } from 'node:fs'
import { rename, rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { AdflowError, localIoError } from '../core/errors.ts'

export interface Holder {
  readonly pid: number
  readonly run: string
  readonly command: string
  /** ISO 8601 UTC. */
  readonly since: string
}

export interface JobLock extends Holder {
  close(): Promise<void>
}

export interface LockOptions {
  /** Default: on Linux. Elsewhere a socket file stands in the directory, and may outlive its process. */
  readonly abstract?: boolean
  /** How long to wait for the holder to say who it is. */
  readonly answerMs?: number
}

const ANSWER_MS = 2000
const ANSWER_BYTES = 64 * 1024
/** Two more tries cover a holder that ends between our attempt to listen and our question. */
const ATTEMPTS = 3
/** Shortest limit of a socket path among the systems (macOS: 104 bytes with the final NUL). */
const SOCKET_PATH_BYTES = 103

/** The lock does not keep the process alive. @throws AdflowError JOB_LOCKED, naming the holder. */
export async function lockJob(
  directory: string,
  owner: { readonly command: string; readonly run: string },
  options: LockOptions = {},
): Promise<JobLock> {
  const holder: Holder = { pid: process.pid, since: new Date().toISOString(), ...owner }
  const address = addressOf(directory, options)
  const asking = new Set<Socket>()
  const server = createServer((socket) => {
    asking.add(socket.unref())
    socket.on('close', () => asking.delete(socket)).on('error', () => socket.destroy())
    socket.end(JSON.stringify(holder))
  })
  for (let attempt = 1; ; attempt += 1) {
    const error = await listen(server, address)
    if (error === undefined) break
    if (error.code !== 'EADDRINUSE') throw localIoError(error, `lock the job in ${directory}`)
    const found = await ask(address, options)
    if (found !== 'nobody' || attempt === ATTEMPTS)
      throw locked(directory, typeof found === 'string' ? undefined : found)
    if (!address.startsWith('\0')) await removeStale(address, options)
  }
  server.unref()
  const close = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve())
      for (const socket of asking) socket.destroy() // one that never hangs up must not hold up the end of the run
    })
  return { ...holder, close }
}

/** `silent`: a process that does not say who it is. */
export function whoHolds(directory: string, options: LockOptions = {}): Promise<Holder | 'nobody' | 'silent'> {
  return ask(addressOf(directory, options), options)
}

/** Who holds the job now; undefined: nobody, or a process that does not answer. */
export async function holderOf(directory: string, options: LockOptions = {}): Promise<Holder | undefined> {
  const found = await whoHolds(directory, options)
  return typeof found === 'string' ? undefined : found
}

function addressOf(directory: string, { abstract = process.platform === 'linux' }: LockOptions): string {
  let real: string
  try {
    real = realpathSync(directory)
  } catch (error) {
    throw localIoError(error, `find the state directory ${directory}`)
  }
  const name = `adflow-${hash('sha256', real).slice(0, 40)}`
  if (abstract) return `\0${name}`
  const path = join(real, 'lock.sock')
  return Buffer.byteLength(path) <= SOCKET_PATH_BYTES ? path : join(tmpdir(), `${name}.sock`)
}

function listen(server: Server, address: string): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    const failed = (error: Error) => {
      server.off('listening', listening)
      resolve(error)
    }
    const listening = () => {
      server.off('error', failed)
      resolve(undefined)
    }
    server.once('error', failed).once('listening', listening).listen(address)
  })
}

/** A killed process leaves its socket file. It is moved away first and asked again there: should another process have
 *  taken its place in the meantime, the file goes back. */
async function removeStale(address: string, options: LockOptions): Promise<void> {
  const aside = `${address}.${process.pid}`
  try {
    await rename(address, aside)
    if ((await ask(aside, options)) === 'nobody') await rm(aside, { force: true })
    else await rename(aside, address)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw localIoError(error, `remove the stale lock ${address}`)
  }
}

/** `nobody`: no process listens. `silent`: one does, but does not answer as a run of adflow would: stopped, or a stranger. */
function ask(address: string, { answerMs = ANSWER_MS }: LockOptions): Promise<Holder | 'nobody' | 'silent'> {
  return new Promise((resolve) => {
    const socket = connect(address)
    let text = ''
    const answer = () => {
      socket.destroy()
      resolve(parseHolder(text) ?? 'silent')
    }
    socket.setTimeout(answerMs, answer)
    socket.on('data', (data) => {
      text += data.toString('utf8')
      if (text.length > ANSWER_BYTES) answer()
    })
    socket.on('end', answer)
    socket.on('error', ({ code }: NodeJS.ErrnoException) =>
      resolve(code === 'ECONNREFUSED' || code === 'ENOENT' ? 'nobody' : 'silent'),
    )
  })
}

function parseHolder(text: string): Holder | undefined {
  try {
    const holder = JSON.parse(text) as Partial<Holder> | null
    return typeof holder?.pid === 'number' && typeof holder.command === 'string' ? (holder as Holder) : undefined
  } catch {
    return undefined // cut off or not ours: the caller reports a holder that cannot be named
  }
}

function locked(directory: string, holder: Holder | undefined): AdflowError {
  const who =
    holder === undefined
      ? 'another process that does not answer'
      : `process ${holder.pid} since ${holder.since} (\`${holder.command}\`)`
  return new AdflowError('JOB_LOCKED', `the job in ${directory} is held by ${who}`, {
    hint: holder === undefined ? 'try again in a moment' : `wait for it, or stop it: kill -TERM ${holder.pid}`,
    ...(holder === undefined ? {} : { details: { holder } }),
  })
}
