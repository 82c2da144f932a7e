/** Asks a daemon, for commands: finds it by the state directory, or by a URL. */
import { dirname, join } from 'node:path'
import { AdflowError, ERROR_CODES, type ErrorCode } from '../core/errors.ts'
import type { StatePlace } from '../core/state-place.ts'
import { daemonFolder } from './daemon.ts'
import { currentLease } from './epoch.ts'
import type { DaemonStatus, JobLine, RunLine } from './face.ts'
import { readToken } from './token.ts'

const ANSWER_MS = 10_000

export interface ClientOptions {
  readonly stateDir: string
  /** Where daemons share their state. */
  readonly place?: StatePlace | undefined
  /** Instead of the daemon that leads in the state directory. */
  readonly url?: string
  readonly tokenFile?: string
  readonly env: Readonly<Record<string, string | undefined>>
}

export interface DaemonClient {
  readonly url: string
  get<Answer>(path: string): Promise<Answer>
  post<Answer>(path: string, body: Readonly<Record<string, unknown>>): Promise<Answer>
}

/** @throws AdflowError DAEMON_UNREACHABLE, TOKEN_UNSAFE */
export async function daemonClient({ stateDir, place, url, tokenFile, env }: ClientOptions): Promise<DaemonClient> {
  const folder = daemonFolder(stateDir, place)
  const address = url ?? (await leaderUrl(folder, place))
  const token = await readToken({ env, folder, ...(tokenFile === undefined ? {} : { file: tokenFile }) })
  const ask = async <Answer>(method: string, path: string, body?: unknown): Promise<Answer> => {
    const response = await fetch(new URL(path, address), {
      method,
      redirect: 'error',
      signal: AbortSignal.timeout(ANSWER_MS),
      headers: { authorization: `Bearer ${token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }).catch((error: unknown) => {
      throw unreachable(`the daemon at ${address} does not answer`, error)
    })
    const found = (await response.json().catch(() => undefined)) as
      | (Answer & { readonly error?: { readonly code: string; readonly message: string } })
      | undefined
    if (response.ok && found !== undefined) return found
    const { code = 'DAEMON_UNREACHABLE', message = `it answers with ${response.status}` } = found?.error ?? {}
    throw new AdflowError(code in ERROR_CODES ? (code as ErrorCode) : 'DAEMON_UNREACHABLE', message)
  }
  return { url: address, get: (path) => ask('GET', path), post: (path, body) => ask('POST', path, body) }
}

/** All that `adflow daemon status` and `adflow top` show. */
export async function daemonReport(client: DaemonClient) {
  const [status, { jobs }, { runs }] = await Promise.all([
    client.get<DaemonStatus>('/api/v1/status'),
    client.get<{ readonly jobs: readonly JobLine[] }>('/api/v1/jobs'),
    client.get<{ readonly runs: readonly RunLine[] }>('/api/v1/runs?limit=10'),
  ])
  return { schema_version: 1 as const, status, jobs, runs }
}

async function leaderUrl(folder: string, place: StatePlace | undefined): Promise<string> {
  const shared = place === undefined ? undefined : { place, baseDir: process.cwd() }
  const lease = await currentLease(join(folder, 'epochs'), shared)
  if (lease?.url == null || lease.released) throw unreachable(`no daemon leads in ${place?.label ?? dirname(folder)}`)
  return lease.url
}

function unreachable(message: string, cause?: unknown): AdflowError {
  return new AdflowError('DAEMON_UNREACHABLE', message, {
    cause,
    hint: 'start one with `adflow daemon FOLDER`, or name another with --state-dir or --url',
  })
}
