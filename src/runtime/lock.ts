/**
 * One run per job and state directory. On Linux the lock is an abstract unix socket: the kernel releases it with the
 * process, however it dies, so there is no stale lock to reason about. Whoever finds it held can ask it who holds it.
 */
import { hash } from 'node:crypto'
import { realpathSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
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

const ANSWER_MS = 2000

/** @throws AdflowError JOB_LOCKED, naming the holder. */
export async function lockJob(
  directory: string,
  owner: { readonly command: string; readonly run: string },
): Promise<JobLock> {
  const holder: Holder = { pid: process.pid, since: new Date().toISOString(), ...owner }
  const address = addressOf(directory)
  const server = createServer((socket) => socket.on('error', () => socket.destroy()).end(JSON.stringify(holder)))
  for (let attempt = 0; ; attempt += 1) {
    const error = await listen(server, address)
    if (error === undefined) break
    if (error.code !== 'EADDRINUSE') throw localIoError(error, `lock the job in ${directory}`)
    const found = await ask(address)
    // A socket file without a listener is what a killed process leaves where there are no abstract sockets.
    if (found === undefined && !address.startsWith('\0') && attempt === 0) await rm(address, { force: true })
    else throw locked(directory, found)
  }
  server.unref()
  return { ...holder, close: () => new Promise((resolve) => server.close(() => resolve())) }
}

/** Who holds the job now; undefined: nobody. */
export async function holderOf(directory: string): Promise<Holder | undefined> {
  return ask(addressOf(directory))
}

function addressOf(directory: string): string {
  if (process.platform !== 'linux') return join(directory, 'lock.sock')
  return `\0adflow-${hash('sha256', realpathSync(directory)).slice(0, 40)}`
}

function listen(server: Server, address: string): Promise<NodeJS.ErrnoException | undefined> {
  return new Promise((resolve) => {
    server.once('error', resolve)
    server.listen(address, () => {
      server.off('error', resolve)
      resolve(undefined)
    })
  })
}

function ask(address: string): Promise<Holder | undefined> {
  return new Promise((resolve) => {
    const socket = connect(address)
    let text = ''
    const answer = () => {
      socket.destroy()
      try {
        resolve(JSON.parse(text) as Holder)
      } catch {
        resolve(undefined) // nobody there, or a holder that does not answer: the caller names it as unknown
      }
    }
    socket.setTimeout(ANSWER_MS, answer)
    socket.on('data', (data) => {
      text += data.toString('utf8')
    })
    socket.on('end', answer)
    socket.on('error', () => resolve(undefined))
  })
}

function locked(directory: string, holder: Holder | undefined): AdflowError {
  const who =
    holder === undefined ? 'another process' : `process ${holder.pid} since ${holder.since} (\`${holder.command}\`)`
  return new AdflowError('JOB_LOCKED', `the job in ${directory} is held by ${who}`, {
    hint: holder === undefined ? 'try again in a moment' : `wait for it, or stop it: kill -TERM ${holder.pid}`,
    ...(holder === undefined ? {} : { details: { holder } }),
  })
}
