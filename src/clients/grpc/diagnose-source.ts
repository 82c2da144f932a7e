/** A gRPC server before a run asks it: the method and its messages are looked up; the method itself is not called. */
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { diagnosisAt, findingsAt } from '../../core/findings.ts'
import type { GrpcChannel } from './channel.ts'
import { type GrpcFetcherOptions, methodOf } from './grpc-fetcher.ts'
import { reflectedServices } from './reflection.ts'
import { retrying } from './retrying.ts'

const ONCE = { attempts: 1, initialMs: 0, maxMs: 0, patienceMs: 0 }
/** Servers that are asked. */
const ASKED = 5

export function diagnoseGrpc(
  channels: readonly GrpcChannel[],
  options: GrpcFetcherOptions,
  { signal }: DiagnoseEnv,
): Diagnosis {
  return diagnosisAt(channels[0]?.address ?? '', async function* () {
    try {
      for (const channel of channels.slice(0, ASKED)) yield* asked(channel, options, signal)
    } finally {
      for (const channel of channels) await channel.close()
    }
  })
}

async function* asked(channel: GrpcChannel, options: GrpcFetcherOptions, signal: AbortSignal): AsyncGenerator<Finding> {
  const { address, encrypted, hasMetadata } = channel
  const at = findingsAt(address)
  const once = <T>(ask: () => Promise<T>) => retrying(ONCE, signal, address, ask)
  // Where the files are named, the server may have no reflection.
  const reachable = await once(() => reflectedServices(channel, signal)).then(
    (services) => at.ok('reachable', `answers, with ${services.length} services`),
    (error: { readonly code?: unknown }) =>
      error.code === 'SOURCE_MISSING' && options.schema.files.length > 0
        ? at.ok('reachable', 'answers, without reflection')
        : at.failure('reachable', error, 'SOURCE_UNREADABLE'),
  )
  yield reachable
  if (reachable.status === 'failed') return
  if (encrypted) yield at.ok('tls', 'encrypted, and the certificate is checked')
  else if (!hasMetadata) yield at.ok('tls', 'not encrypted')
  else
    yield at.warning(
      'tls',
      'not encrypted: metadata and records can be read on the way',
      'set `tls: { mode: verify }`, and `ca` where the authority is your own',
    )
  yield await once(() => methodOf(channel, options, signal)).then(
    ({ path, streams }) => at.ok('target', `${path} is there, ${streams ? 'with a stream of answers' : 'unary'}`),
    (error) => at.failure('target', error, 'SOURCE_UNREADABLE'),
  )
}
