/** What a cluster of Elasticsearch or OpenSearch says of itself before a run: asked by requests that change nothing. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { connect } from 'node:tls'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { AdflowError } from '../../core/errors.ts'
import type { Findings } from '../../core/findings.ts'
import { diagnosisAt } from '../../core/findings.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import type { Fields } from './fields.ts'
import { Elastic, placeOf } from './http.ts'
import type { ConnectionOptions } from './options.ts'
import { nextOf } from './swap.ts'
import { additionsFor, findTarget, missingIndex, type Target, type TargetPlan, unfinishedReplace } from './target.ts'

export interface IndexQuestion {
  readonly index: string
  readonly write: 'append' | 'merge' | 'replace'
  /** The hidden index of entries. */
  readonly batches: string
  readonly plan: TargetPlan
  /** undefined: not known. */
  readonly fields: Fields | undefined
}

/** The oldest major versions that their makers still maintain. */
const OLDEST = { opensearch: 2, elasticsearch: 8 } as const

export interface Root {
  readonly version: { readonly number: string; readonly distribution?: string }
}

export function diagnoseElastic(options: ConnectionOptions, question: IndexQuestion, env: DiagnoseEnv): Diagnosis {
  const url = placeOf(options)
  const limits = {
    connections: 1,
    connect_timeout: Math.min(options.connect_timeout, env.answerMs),
    request_timeout: Math.min(options.request_timeout, env.answerMs),
  }
  return diagnosisAt(`${url.host}${url.pathname.replace(/\/$/, '')}/${question.index}`, async function* (at) {
    const elastic = new Elastic({ ...options, ...limits }, env.baseDir)
    try {
      const { body } = await elastic.request({
        method: 'GET',
        path: [],
        signal: env.signal,
        doing: `reach ${url.href}`,
      })
      const secured = options.api_key !== undefined || options.user !== undefined
      yield at.ok('reachable', secured ? 'answers, and takes the credentials' : 'answers; the job gives no credentials')
      yield version(at, body as Root)
      yield await tls(at, url, options, env)
      yield* await target(elastic, question, at)
      yield await permission(elastic, question, { at, secured })
      yield* await machine(elastic, at, env)
    } finally {
      await elastic.close()
    }
  })
}

export function version(at: Findings, { version: { number, distribution } }: Root): Finding {
  const kind = distribution === 'opensearch' ? 'opensearch' : 'elasticsearch'
  const text = `${kind === 'opensearch' ? 'OpenSearch' : 'Elasticsearch'} ${number}`
  if (Number.parseInt(number, 10) >= OLDEST[kind]) return at.ok('version', text)
  return at.warning('version', `${text}, which is no longer maintained`, `upgrade to ${OLDEST[kind]} or newer`)
}

export async function tls(
  at: Findings,
  url: URL,
  options: Pick<ConnectionOptions, 'tls'>,
  env: DiagnoseEnv,
): Promise<Finding> {
  if (url.protocol === 'https:') {
    const { protocol, validToMs } = await handshake(url, options, env)
    return at.tls(protocol, validToMs, env.now())
  }
  if (isThisMachine(url.hostname)) return at.ok('tls', 'not encrypted, on this machine')
  return at.warning(
    'tls',
    'not encrypted: data and password can be read on the way',
    'name the server by `https://`, and its authority in `tls.ca` where that is your own',
  )
}

/** Once more, for the certificate: by now it is known to be trusted. */
function handshake(
  { hostname, port }: URL,
  { tls: { ca } }: Pick<ConnectionOptions, 'tls'>,
  { baseDir, answerMs }: DiagnoseEnv,
): Promise<{ protocol: string; validToMs: number | undefined }> {
  const { promise, resolve: done } = Promise.withResolvers<{ protocol: string; validToMs: number | undefined }>()
  const socket = connect({
    host: hostname.replace(/^\[|\]$/g, ''),
    port: Number(port === '' ? 443 : port),
    servername: /^[\d.]+$|:/.test(hostname) ? '' : hostname,
    rejectUnauthorized: false,
    timeout: answerMs,
    ...(ca === undefined ? {} : { ca: readFileSync(resolve(baseDir, ca)) }),
  })
  const end = (): void => {
    const validTo = socket.getPeerCertificate().valid_to as string | undefined
    const protocol = socket.getProtocol() ?? 'TLS'
    socket.destroy()
    done({ protocol, validToMs: validTo === undefined ? undefined : Date.parse(validTo) })
  }
  socket.once('secureConnect', end).once('error', end).once('timeout', end)
  return promise
}

async function target(elastic: Elastic, question: IndexQuestion, at: Findings): Promise<readonly Finding[]> {
  const { index, write, plan, fields, batches } = question
  try {
    const there = await findTarget(elastic, index)
    const next = await findTarget(elastic, nextOf(index))
    if (next !== undefined && write !== 'replace') throw unfinishedReplace(nextOf(index))
    const written = write === 'replace' ? next : there
    if (written === undefined && !plan.create) throw missingIndex(write === 'replace' ? nextOf(index) : index)
    const additions = written === undefined || fields === undefined ? {} : additionsFor(index, fields, written, plan)
    const made = [
      ...(there === undefined ? [`${plan.stream ? 'data stream' : 'index'} ${index}`] : []),
      ...((await isThere(elastic, batches)) ? [] : [`index ${batches}`]),
      ...Object.keys(additions).map((name) => `field ${name}`),
    ]
    return [
      at.ok('target', made.length === 0 ? 'the index is there and fits' : `would be made: ${made.join(', ')}`),
      ...(written === undefined ? [] : [writable(at, written)]),
      at.ok('durability', 'what is acknowledged is on disk (index.translog.durability: request)'),
    ]
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    return [at.failure('target', error)]
  }
}

async function isThere(elastic: Elastic, index: string): Promise<boolean> {
  const doing = `look for the index ${index}`
  return (await elastic.request({ method: 'HEAD', path: [index], expect: [404], doing })).status !== 404
}

function writable(at: Findings, { write, blocks }: Target): Finding {
  if (blocks.length === 0) return at.ok('writable', 'takes writes')
  const full = blocks.includes('index.blocks.read_only_allow_delete')
  return at.failed(
    'writable',
    'STORE_UNAVAILABLE',
    `${write} takes no writes (${blocks.join(', ')})`,
    full ? 'free space on the disk of the nodes; then the block goes, or is taken away by hand' : 'take the block away',
  )
}

interface Privileges {
  readonly index: Readonly<Record<string, Readonly<Record<string, boolean>>>>
}

/** Elasticsearch tells what a user may do; OpenSearch has no such question that everybody may ask. */
async function permission(
  elastic: Elastic,
  { index, write, plan, batches }: IndexQuestion,
  { at, secured }: { readonly at: Findings; readonly secured: boolean },
): Promise<Finding> {
  const makes = plan.create || plan.evolve || write === 'replace'
  const own = write === 'merge' ? 'index' : 'create_doc'
  const wanted = [
    {
      names: write === 'replace' ? [index, `${index}__adflow_*`] : [index],
      privileges: ['view_index_metadata', own, 'read', 'delete', 'maintenance', ...(makes ? ['manage'] : [])],
    },
    { names: [batches], privileges: ['read', 'index', 'maintenance', 'create_index'] },
  ]
  const { status, body } = await elastic.request({
    method: 'POST',
    path: ['_security', 'user', '_has_privileges'],
    body: { index: wanted },
    expect: [400, 401, 403, 404, 405],
    doing: 'ask what the user may do',
  })
  if (status !== 200)
    return secured
      ? at.unknown(
          'permission',
          'the server does not tell what a user may do',
          'run the job once against a copy of the index',
        )
      : at.ok('permission', 'the server asks for no credentials')
  const missing = Object.entries((body as Privileges).index).flatMap(([name, has]) =>
    Object.entries(has).flatMap(([privilege, granted]) => (granted ? [] : [`${privilege} on ${name}`])),
  )
  if (missing.length === 0) return at.ok('permission', 'the user may do what the job does')
  return at.failed(
    'permission',
    'STORE_DENIED',
    `the user lacks ${missing.join(', ')}`,
    'grant these to a role of the user of the job',
  )
}

interface NodeStats {
  readonly nodes?: Readonly<
    Record<
      string,
      {
        readonly timestamp: number
        readonly fs?: { readonly total: { readonly total_in_bytes: number; readonly available_in_bytes: number } }
      }
    >
  >
}

/** Clock and disk, of the node whose disk is fullest. */
async function machine(elastic: Elastic, at: Findings, env: DiagnoseEnv): Promise<readonly Finding[]> {
  const askedMs = env.now()
  const { status, body } = await elastic.request({
    method: 'GET',
    path: ['_nodes', 'stats', 'fs'],
    query: { filter_path: 'nodes.*.timestamp,nodes.*.fs.total' },
    expect: [401, 403],
    doing: 'ask for clock and disk',
  })
  const answeredMs = env.now()
  const nodes = Object.values((body as NodeStats | undefined)?.nodes ?? {})
  if (status !== 200 || nodes.length === 0) {
    const mend = 'give the user the cluster privilege `monitor`, or look there'
    return [at.unknown('clock', 'the user may not see it', mend), at.unknown('disk', 'the user may not see it', mend)]
  }
  const disks = nodes.flatMap(({ fs }) => (fs === undefined ? [] : [fs.total]))
  const fullest = disks.reduce<(typeof disks)[number] | undefined>(
    (worst, disk) => (worst === undefined || disk.available_in_bytes < worst.available_in_bytes ? disk : worst),
    undefined,
  )
  const far = nodes.reduce((a, b) => (Math.abs(b.timestamp - askedMs) > Math.abs(a.timestamp - askedMs) ? b : a))
  return [
    at.clock({ systemMs: far.timestamp, askedMs, answeredMs }),
    ...(fullest === undefined
      ? []
      : [at.disk({ freeBytes: fullest.available_in_bytes, totalBytes: fullest.total_in_bytes }, 'server')]),
  ]
}
