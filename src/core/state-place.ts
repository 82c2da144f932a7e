/** Where several machines share the state of jobs: a schema of a PostgreSQL server, as a URL names it. */
import { hash } from 'node:crypto'
import { resolve } from 'node:path'
import { AdflowError } from './errors.ts'
import { registerSecret } from './job/secrets.ts'
import { parseDuration } from './job/units.ts'

export interface StatePlace {
  /** As it was given. */
  readonly text: string
  /** Of the server, without what is ours in it. */
  readonly url: string
  readonly schema: string
  /** How long a process that is not heard of keeps what it has taken, in milliseconds. */
  readonly leaseMs: number
  /** Paths of files are absolute. */
  readonly tls: {
    readonly mode?: 'verify' | 'off'
    readonly ca?: string
    readonly certificate?: string
    readonly key?: string
  }
  /** For people: no user, no password. */
  readonly label: string
  /** The same place has the same key: a name of a folder. */
  readonly key: string
}

const DEFAULT_LEASE = '15s'
const SHORTEST_LEASE_MS = 1000
const KNOWN = ['schema', 'lease', 'tls', 'ca', 'certificate', 'key']

export function isStateUrl(text: string): boolean {
  return /^postgres(?:ql)?:\/\//.test(text)
}

/** `postgres://user@host:5432/database?schema=adflow&lease=15s&tls=verify&ca=…`. Its password is kept out of every text from
 *  here on. `baseDir`: what its files are relative to, the folder of the job file that it stands in. @throws AdflowError USAGE, saying what is wrong */
export function parseStatePlace(text: string, baseDir = process.cwd()): StatePlace {
  const url = URL.parse(text)
  if (url === null || !isStateUrl(text) || url.hostname === '')
    throw wrong(
      'the URL does not parse',
      'write `postgres://user@host:5432/database`, and percent-encode what is special',
    )
  if (url.password !== '') {
    registerSecret(url.password)
    registerSecret(decodeURIComponent(url.password))
  }
  const ours = Object.fromEntries(url.searchParams)
  const unknown = Object.keys(ours).find((name) => !KNOWN.includes(name))
  if (unknown !== undefined) throw wrong(`it has no option \`${unknown}\``, `options: ${KNOWN.join(', ')}`)
  const { schema = 'adflow', lease = DEFAULT_LEASE, tls, ca, certificate, key } = ours
  const leaseMs = parseDuration(lease)
  if (leaseMs === undefined || leaseMs < SHORTEST_LEASE_MS)
    throw wrong(`\`lease=${lease}\` is no duration of at least 1 s`, 'write `lease=15s`')
  if (tls !== undefined && tls !== 'verify' && tls !== 'off')
    throw wrong(`\`tls=${tls}\``, 'write `tls=verify` or `tls=off`')
  if (schema === '' || schema.length > 63) throw wrong('`schema` is no name of a schema', 'write `schema=adflow`')
  const label = `postgres://${url.host}${url.pathname} (schema ${schema})`
  url.search = ''
  return {
    text,
    url: url.href,
    schema,
    leaseMs,
    tls: {
      ...(tls === undefined ? {} : { mode: tls }),
      ...(ca === undefined ? {} : { ca: resolve(baseDir, ca) }),
      ...(certificate === undefined ? {} : { certificate: resolve(baseDir, certificate) }),
      ...(key === undefined ? {} : { key: resolve(baseDir, key) }),
    },
    label,
    key: hash('sha256', label).slice(0, 12),
  }
}

function wrong(found: string, hint: string): AdflowError {
  return new AdflowError('USAGE', `cannot keep the state in PostgreSQL: ${found}`, { hint })
}
