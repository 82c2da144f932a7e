/** What sources offer: by an address, by a type with its options, or those of a job. */
import type { Logger } from 'pino'
import { collectOffers, type DiscoveredSource } from '../core/discovery.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import { optionsOf, type SourceAddress, sourceOfAddress } from './source-address.ts'

export interface DiscoverOptions {
  readonly registry: Registry
  readonly log: Logger
  /** Relative paths in options are relative to it. */
  readonly baseDir: string
  readonly timeoutMs: number
  readonly limit: number
  /** Only those whose name has this in it; letters in any case. */
  readonly match: string | undefined
}

/** `from`: an address, a type of extractor, or a file. @throws AdflowError USAGE */
export function sourceFrom(from: string, set: readonly string[], registry: Registry): SourceAddress {
  const address = sourceOfAddress(from, set)
  if (address !== undefined) return address
  const options = optionsOf(set, '--set')
  if (registry.types('extractor').includes(from)) return { type: from, options, name: from }
  return { type: 'files', options: { path: from, ...options }, name: from }
}

export async function discoverAddress(
  { type, options }: SourceAddress,
  asked: DiscoverOptions,
): Promise<DiscoveredSource> {
  const { discovery } = await asked.registry.get('extractor', type)
  if (discovery === undefined) throw cannotSay(type)
  const parsed = discovery.connection.safeParse(options)
  if (!parsed.success) {
    const found = parsed.error.issues.map(({ path, message }) => `\`${path.join('.')}\` ${message}`).join('; ')
    throw new AdflowError('USAGE', `the source ${type} cannot be reached by these options: ${found}`, {
      hint: `give them by --set option=value; \`adflow components describe ${type}\` lists them`,
    })
  }
  return discovered(null, type, parsed.data, asked)
}

export async function discoverJob(job: Job, asked: DiscoverOptions): Promise<readonly DiscoveredSource[]> {
  return Promise.all(job.extract.map(({ id, type, options }) => discovered(id, type, options, asked)))
}

async function discovered(
  source: string | null,
  type: string,
  options: unknown,
  { registry, log, baseDir, timeoutMs, limit, match }: DiscoverOptions,
): Promise<DiscoveredSource> {
  const signal = AbortSignal.timeout(timeoutMs)
  try {
    const { discovery } = await registry.get('extractor', type)
    if (discovery === undefined) throw cannotSay(type)
    const env = { id: source ?? type, job: 'discover', baseDir, log, signal }
    const wanted = match?.toLowerCase() ?? ''
    const offers = await collectOffers(discovery, options, env, limit, ({ name }) =>
      name.toLowerCase().includes(wanted),
    )
    return { source, type, ...offers, error: null }
  } catch (error) {
    return {
      source,
      type,
      offers: [],
      more: false,
      error: faultOf(error, type, signal.aborted ? timeoutMs : undefined),
    }
  }
}

function faultOf(error: unknown, type: string, passedMs: number | undefined): NonNullable<DiscoveredSource['error']> {
  if (error instanceof AdflowError) return { code: error.code, message: error.message, hint: error.hint ?? null }
  if (passedMs === undefined) throw error
  return {
    code: 'SOURCE_UNREADABLE',
    message: `the source ${type} did not answer within ${passedMs / 1000} s`,
    hint: 'check its address, or raise --timeout',
  }
}

function cannotSay(type: string): AdflowError {
  return new AdflowError('USAGE', `sources of the type ${type} cannot say what they offer`, {
    hint: `see \`adflow components describe ${type}\``,
  })
}
