/** What an SFTP server says of itself and of a folder before a run: asked by reading, and by requests that it must refuse. */
import { posix } from 'node:path'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { diagnosisAt, type Findings } from '../../core/findings.ts'
import { explainSftp, isMissing } from './errors.ts'
import { SftpFiles } from './files.ts'
import type { SftpOptions } from './options.ts'
import { addressOf, SftpSession, type Wrapper } from './session.ts'

interface Question extends SftpOptions {
  readonly create: 'missing' | 'never'
}

interface Attributes {
  readonly mode: number
  readonly uid: number
  isDirectory(): boolean
}

const RENAME = 'posix-rename@openssh.com'
const SYNC = 'fsync@openssh.com'

export function diagnoseSftp(options: Question, env: DiagnoseEnv): Diagnosis {
  return diagnoseAnySftp(options, env, async function* (at, session, extensions) {
    yield version(at, extensions)
    if (!extensions.has(SYNC))
      yield at.warning(
        'durability',
        'the server cannot sync files before they get their names',
        'have it offer fsync@openssh.com, or a file system that keeps what was closed',
      )
    yield* await folder(session, at, options)
  })
}

/** `more`: what is asked once the server has answered. */
export function diagnoseAnySftp(
  options: SftpOptions,
  env: DiagnoseEnv,
  more: (at: Findings, session: SftpSession, extensions: ReadonlySet<string>) => AsyncIterable<Finding>,
): Diagnosis {
  const { host, port, username } = addressOf(options)
  const place = `${host}:${port}/${options.path.replace(/^\//, '')}`
  return diagnosisAt(place, async function* (at) {
    const limits = {
      timeout: Math.min(options.timeout, env.answerMs),
      connect_timeout: Math.min(options.connect_timeout, env.answerMs),
    }
    const session = new SftpSession({ ...options, ...limits }, env.baseDir)
    try {
      const extensions = await session.ask<ReadonlySet<string>>((sftp, answer) => answer(null, extensionsOf(sftp)))
      yield at.ok('reachable', `answers to the user ${username}`)
      yield at.ok('tls', 'SSH, and the key of the server is known')
      yield* more(at, session, extensions)
    } finally {
      await session.close()
    }
  })
}

/** The client knows what the server has offered, and shows it nowhere. */
function extensionsOf(sftp: Wrapper): ReadonlySet<string> {
  const { _extensions: offered = {} } = sftp as unknown as { readonly _extensions?: Readonly<Record<string, string>> }
  return new Set(Object.keys(offered))
}

function version(at: Findings, extensions: ReadonlySet<string>): Finding {
  if (extensions.has(RENAME)) return at.ok('version', `SFTP with ${RENAME}`)
  return at.failed(
    'version',
    'STORE_MISMATCH',
    `the server lacks ${RENAME}: files could not appear in one step`,
    'use a server that has it, such as OpenSSH, ProFTPD or SFTPGo',
  )
}

async function folder(session: SftpSession, at: Findings, { path, create }: Question): Promise<Finding[]> {
  const files = new SftpFiles(session)
  const there = await attributesOf(session, path)
  if (there === undefined && create === 'never')
    return [
      at.failed(
        'target',
        'STORE_MISMATCH',
        'the folder is not there',
        'make it, name another in `path`, or set `create: missing`',
      ),
    ]
  if (there?.isDirectory() === false)
    return [at.failed('target', 'STORE_MISMATCH', 'is there, and is no folder', 'name another in `path`')]
  const around = await nearest(session, path)
  const space = await files.spaceOf(around)
  return [
    at.ok('target', there === undefined ? 'would be made: the folder' : 'the folder is there'),
    space?.readOnly === true
      ? at.failed('writable', 'STORE_UNAVAILABLE', 'the file system of the server is read-only', 'mount it for writing')
      : await writable(session, at, around),
    permission(at, around, await attributesOf(session, around)),
    space === undefined
      ? at.unknown('disk', 'the server does not tell how much is free', 'watch its disk there')
      : at.disk(space, 'server'),
  ]
}

/** A file that is not there is opened for writing and not made: a server that takes no writes says so before it looks. */
async function writable(session: SftpSession, at: Findings, folder: string): Promise<Finding> {
  const path = posix.join(folder, '_adflow.doctor')
  try {
    await session.ask<Buffer>((sftp, answer) => sftp.open(path, 'r+', answer))
  } catch (error) {
    if (!isMissing(error)) return at.failure('writable', explainSftp(error, `open a file for writing in ${folder}`))
  }
  return at.ok('writable', 'takes writes')
}

/** The protocol has no question for it. */
function permission(at: Findings, folder: string, attributes: Attributes | undefined): Finding {
  const mode = ((attributes?.mode ?? 0) & 0o777).toString(8)
  return at.unknown(
    'permission',
    `${folder} has the mode ${mode} and the owner ${attributes?.uid}; who may write there is not told beforehand`,
    'put a file there with `sftp`, as the user of the job',
  )
}

async function nearest(session: SftpSession, path: string): Promise<string> {
  for (let at = path; ; at = posix.dirname(at))
    if (at === posix.dirname(at) || (await attributesOf(session, at)) !== undefined) return at
}

function attributesOf(session: SftpSession, path: string): Promise<Attributes | undefined> {
  return session
    .ask<Attributes>((sftp, answer) => sftp.stat(path, answer as never))
    .catch((error: unknown) => {
      if (isMissing(error)) return undefined
      throw explainSftp(error, `look at ${path}`)
    })
}
