/** The source that an address stands for: `postgres://reader@db.example/ads?table=events` is the extractor and its options. */
import { parse } from 'yaml'
import { AdflowError } from '../core/errors.ts'

export interface SourceAddress {
  readonly type: string
  /** As they would stand in a job file. */
  readonly options: Readonly<Record<string, unknown>>
  /** What a job is called after. */
  readonly name: string
}

interface Parts {
  /** `scheme://user@host:port`, without the password. */
  readonly scheme: string
  readonly user: string
  readonly host: string
  /** Without the slash at its beginning. */
  readonly path: string
  readonly secure: boolean
}

type Reading = { readonly type: string; options(parts: Parts): Record<string, unknown> }

const at = ({ user, host }: Parts) => (user === '' ? host : `${user}@${host}`)
const web = (parts: Parts) => `${parts.secure ? 'https' : 'http'}://${parts.host}`
const given = (option: string, value: string) => (value === '' ? {} : { [option]: value })

const READINGS: Readonly<Record<string, Reading>> = {
  postgres: { type: 'postgres', options: (parts) => ({ url: `postgres://${at(parts)}/${parts.path}` }) },
  clickhouse: {
    type: 'clickhouse',
    options: (parts) => ({ url: `${parts.secure ? 'https' : 'http'}://${at(parts)}/${parts.path}` }),
  },
  s3: { type: 's3', options: ({ host, path }) => ({ bucket: host, ...given('prefix', path.replace(/\/+$/, '')) }) },
  sftp: {
    type: 'sftp',
    options: (parts) => ({ url: `sftp://${at(parts)}`, ...given('path', pathOf(parts.path)) }),
  },
  kafka: { type: 'kafka', options: ({ host, path }) => ({ brokers: host, ...given('topics', path) }) },
  elasticsearch: {
    type: 'elasticsearch',
    options: (parts) => ({ url: web(parts), ...given('user', parts.user), ...given('index', parts.path) }),
  },
  prometheus: {
    type: 'prometheus',
    options: (parts) => ({ url: `${web(parts)}${parts.path === '' ? '' : `/${parts.path}`}` }),
  },
  grpc: { type: 'grpc', options: ({ host, path }) => ({ address: host, ...given('method', path) }) },
}

const OTHER_NAMES: Readonly<Record<string, string>> = { postgresql: 'postgres', opensearch: 'elasticsearch' }

const SCHEMES = ['http', 'https', ...Object.keys(READINGS)]

/** undefined: it is no address but a file. `set`: `option=value` pairs, whose values are YAML; they win. @throws AdflowError USAGE */
export function sourceOfAddress(address: string, set: readonly string[] = []): SourceAddress | undefined {
  const [, spoken, rest] = /^([a-z][a-z0-9]*(?:\+https)?):\/\/(.*)$/s.exec(address) ?? []
  if (spoken === undefined || rest === undefined) return undefined
  const more = optionsOf(set, '--set')
  // What stands in the query is asked of an API, and is no option.
  if (spoken === 'http' || spoken === 'https')
    return { type: 'http', options: { url: address, ...more }, name: lastName(rest.replace(/[?#].*$/s, '')) }
  const secure = spoken.endsWith('+https')
  const plain = spoken.replace('+https', '')
  const reading = READINGS[OTHER_NAMES[plain] ?? plain]
  if (reading === undefined)
    throw new AdflowError('USAGE', `there is no source with addresses such as ${spoken}://`, {
      hint: `there are: ${SCHEMES.map((scheme) => `${scheme}://`).join(', ')}`,
    })
  const [, login = '', host = '', path = '', query = ''] =
    /^(?:([^@/?]*)@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/s.exec(rest) ?? []
  if (host === '')
    throw new AdflowError('USAGE', `${spoken}:// is followed by no host`, { hint: `such as ${spoken}://host` })
  const [user = '', ...password] = login.split(':')
  const parts = { scheme: plain, user, host, path: decodeURIComponent(path), secure }
  const asked = [...new URLSearchParams(query)].map(([option, value]) => `${option}=${value}`)
  const secret = password.length === 0 ? {} : { password: decodeURIComponent(password.join(':')) }
  return {
    type: reading.type,
    options: { ...reading.options(parts), ...secret, ...optionsOf(asked, 'the address'), ...more },
    name: lastName(parts.path || host.replace(/[:,].*$/, '')),
  }
}

/** `cursor=[id]` → `{ cursor: ['id'] }`. `place` is named in errors. @throws AdflowError USAGE */
export function optionsOf(pairs: readonly string[], place: string): Record<string, unknown> {
  return Object.fromEntries(
    pairs.map((pair) => {
      const equals = pair.indexOf('=')
      if (equals < 1)
        throw new AdflowError('USAGE', `${place}: \`${pair}\` is no option with a value`, {
          hint: 'such as table=events, or cursor=[id]',
        })
      return [pair.slice(0, equals), yamlValue(pair.slice(equals + 1))]
    }),
  )
}

function yamlValue(text: string): unknown {
  try {
    return parse(text) as unknown
  } catch {
    return text
  }
}

/** `/upload` begins at the root of the server, `~/upload` where the user logs in. */
function pathOf(path: string): string {
  const bare = path.replace(/\/+$/, '')
  if (bare.startsWith('~/')) return bare.slice(2)
  return bare === '' ? '' : `/${bare}`
}

function lastName(path: string): string {
  return path.replace(/\/+$/, '').split('/').at(-1) ?? ''
}
