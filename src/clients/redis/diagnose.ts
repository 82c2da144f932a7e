/** What Redis says of itself before a run: asked by reading, and by commands that change nothing. */
import type { Redis } from 'ioredis'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { AdflowError } from '../../core/errors.ts'
import { diagnosisAt, type Findings } from '../../core/findings.ts'
import { sizeText } from '../../core/job/units.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { askServer, type LedgerPlace, rememberedBy } from './batch-ledger.ts'
import { placeOf, RedisServer, type Use } from './connect.ts'
import type { DataOptions } from './data-options.ts'
import { explainRedis } from './errors.ts'
import type { ConnectionOptions } from './options.ts'
import { lackingCommands } from './privileges.ts'

const OLDEST = [7, 0] as const
const FULL = 0.9

type Options = ConnectionOptions & DataOptions

/** INFO of each master. */
type Infos = readonly Readonly<Record<string, string>>[]

export function diagnoseRedis(options: Options, place: LedgerPlace, env: DiagnoseEnv): Diagnosis {
  const { host, port, database, secure } = placeOf(options)
  const limits = {
    connect_timeout: Math.min(options.connect_timeout, env.answerMs),
    command_timeout: Math.min(options.command_timeout, env.answerMs),
  }
  const name = options.topology === 'cluster' ? `${host}:${port}` : `${host}:${port}/${database}`
  return diagnosisAt(name, async function* (at) {
    const server = new RedisServer({ ...options, ...limits }, env.baseDir)
    const ask = (work: (use: Use) => Promise<readonly Finding[]>) => server.with(`reach ${name}`, work, env.signal)
    try {
      yield* await ask(async ({ client, masters }) => {
        await Promise.all(masters.map((node) => node.ping()))
        const { user } = placeOf(options)
        return [
          at.ok('reachable', `answers to the user ${user === '' ? 'default' : user}`),
          await asking(at, 'version', async () => version(at, await askServer(client, place))),
          tls(at, secure, host),
          await asking(at, 'writable', async () => {
            await askServer(client, place)
            return at.ok('writable', 'takes writes')
          }),
          await asking(at, 'permission', async () => permission(at, await lackingCommands(client, options, place))),
          await asking(at, 'target', async () => target(at, await rememberedBy(client, place))),
        ]
      })
      yield* await ask(async ({ masters }) => {
        const told = await Promise.all(masters.map((node) => node.info().catch(() => undefined)))
        const infos = told.flatMap((text) => (text === undefined ? [] : [parsed(text)]))
        if (infos.length < told.length) return withoutInfo(at)
        const syncs = await Promise.all(masters.map(syncOf))
        return [
          durability(at, infos, { syncs, wanted: options.wait?.replicas ?? 0 }),
          memory(at, infos),
          eviction(at, infos),
          room(at, infos),
        ]
      })
      yield* await ask(async ({ masters }) => [await asking(at, 'clock', () => clock(at, masters, env))])
    } finally {
      await server.close()
    }
  })
}

/** A refusal belongs to the question that was refused. */
async function asking(at: Findings, check: Finding['check'], ask: () => Promise<Finding>): Promise<Finding> {
  try {
    return await ask()
  } catch (error) {
    const found = explainRedis(error, `ask for ${check}`)
    if (found.code === 'STORE_DENIED' && check === 'clock')
      return at.unknown(check, 'the user may not ask for the time', 'let it run TIME')
    if (error instanceof AdflowError || /^[A-Z]+ /.test((error as Error).message)) return at.failure(check, found)
    throw error
  }
}

function version(at: Findings, found: string): Finding {
  const [major = 0, minor = 0] = found.split('.').map(Number)
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return at.ok('version', `Redis ${found}`)
  return at.failed('version', 'STORE_MISMATCH', `Redis ${found}`, `upgrade to ${OLDEST.join('.')} or newer`)
}

function tls(at: Findings, secure: boolean, host: string): Finding {
  if (secure) return at.ok('tls', 'encrypted, and the certificate is checked')
  if (isThisMachine(host)) return at.ok('tls', 'not encrypted, on this machine')
  return at.warning(
    'tls',
    'not encrypted: data and password can be read on the way',
    'set `tls: { mode: verify }`, and `ca` where the authority is your own',
  )
}

function permission(at: Findings, lacking: readonly string[]): Finding {
  if (lacking.length === 0) return at.ok('permission', 'the user may do what the job does')
  return at.failed(
    'permission',
    'STORE_DENIED',
    `the user lacks ${lacking.join(', ')} on these keys`,
    `ACL SETUSER <user> ${lacking.map((command) => `+${command}`).join(' ')}, and the keys ~<prefix>*`,
  )
}

function target(at: Findings, batches: number): Finding {
  return at.ok('target', batches === 0 ? 'nothing was written there yet' : `${batches} batches are remembered there`)
}

/** How often the log is synced; undefined where the user may not ask. */
async function syncOf(node: Redis): Promise<string | undefined> {
  const [, sync] = (await node.config('GET', 'appendfsync').catch(() => [])) as readonly string[]
  return sync
}

function durability(
  at: Findings,
  infos: Infos,
  { syncs, wanted }: { readonly syncs: readonly (string | undefined)[]; readonly wanted: number },
): Finding {
  const replicas = Math.min(...infos.map((info) => Number(info['connected_slaves'])))
  if (replicas < wanted)
    return at.failed(
      'durability',
      'STORE_UNAVAILABLE',
      `a master has ${replicas} replicas, and \`wait\` wants ${wanted}`,
      'bring the replicas back, or lower `wait.replicas`',
    )
  if (infos.every((info) => info['aof_enabled'] === '1')) {
    const lazy = syncs.find((sync) => sync !== undefined && sync !== 'always')
    if (wanted > 0) return at.ok('durability', `every write is logged, and counts when ${wanted} replicas have it`)
    if (lazy !== undefined)
      return at.warning(
        'durability',
        `appendfsync ${lazy}: batches of the last moments are gone after a crash of the machine`,
        'set appendfsync always, or `wait` for replicas',
      )
    if (syncs.every((sync) => sync === 'always'))
      return at.ok('durability', 'every write is on disk (appendfsync always)')
    return at.unknown(
      'durability',
      'every write is logged (appendonly); how often the log is synced is not told',
      'let the user run CONFIG GET, or see appendfsync there',
    )
  }
  return at.warning(
    'durability',
    'appendonly is off: batches since the last snapshot are gone after a crash of the server',
    'set appendonly yes, and appendfsync always where no replica stands by',
  )
}

function memory(at: Findings, infos: Infos): Finding {
  const parts = infos.map((info) => ({ used: Number(info['used_memory']), most: Number(info['maxmemory']) }))
  const limited = parts.filter(({ most }) => most > 0)
  const [fullest] = [...limited].sort((a, b) => b.used / b.most - a.used / a.most)
  const used = parts.reduce((sum, part) => sum + part.used, 0)
  if (fullest === undefined) return at.ok('memory', `${sizeText(used)} used, without a limit of its own`)
  const found = `${sizeText(fullest.used)} used of ${sizeText(fullest.most)}`
  const mend = 'raise maxmemory, or remove keys'
  if (fullest.used >= fullest.most) return at.failed('memory', 'STORE_UNAVAILABLE', found, mend)
  return fullest.used > FULL * fullest.most ? at.warning('memory', found, mend) : at.ok('memory', found)
}

/** A server that evicts any key evicts what adflow remembers by. */
function eviction(at: Findings, infos: Infos): Finding {
  const policies = [...new Set(infos.map((info) => info['maxmemory_policy'] ?? ''))]
  const evicting = policies.filter((policy) => policy.startsWith('allkeys'))
  if (evicting.length === 0) return at.ok('dedup_window', 'every batch is remembered')
  return at.warning(
    'dedup_window',
    `the server drops any key when its memory is full, and with it what it remembers of batches (${evicting.join(', ')})`,
    'set maxmemory-policy noeviction, or one that drops only keys with a ttl (volatile-ttl)',
  )
}

function room(at: Findings, infos: Infos): Finding {
  const free = Math.min(...infos.map((info) => Number(info['maxclients']) - Number(info['connected_clients']) + 1))
  if (free >= 1) return at.ok('connections', `${free} free, 1 wanted`)
  return at.warning('connections', 'none is free', 'raise maxclients, or end clients that nobody uses')
}

function withoutInfo(at: Findings): readonly Finding[] {
  const mend = 'let the user run INFO, or look at the server'
  return (['durability', 'memory', 'dedup_window', 'connections'] as const).map((check) =>
    at.unknown(check, 'the user may not ask for it', mend),
  )
}

async function clock(at: Findings, masters: Use['masters'], env: DiagnoseEnv): Promise<Finding> {
  const askedMs = env.now()
  const [seconds = 0, micros = 0] = (await masters[0]?.time())?.map(Number) ?? []
  return at.clock({ systemMs: seconds * 1000 + micros / 1000, askedMs, answeredMs: env.now() })
}

function parsed(info: string): Readonly<Record<string, string>> {
  return Object.fromEntries([...info.matchAll(/^([a-z_0-9]+):(.*?)\r?$/gm)].map(([, name, value]) => [name, value]))
}
