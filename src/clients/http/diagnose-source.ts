/** An HTTP source before a run asks it: one request of its first page, of which nothing is read. */
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { AdflowError } from '../../core/errors.ts'
import { diagnosisAt, findingsAt } from '../../core/findings.ts'
import { placeOf, SourceClient, type SourceClientOptions } from './source-client.ts'

/** Addresses that are asked. */
const ASKED = 5

export function diagnoseHttpSource(
  urls: readonly string[],
  options: SourceClientOptions,
  { answerMs, signal, now }: DiagnoseEnv,
): Diagnosis {
  const places = urls.map((url) => ({ url: url.replace(/\{\w+\}/g, '') }))
  return diagnosisAt(placeOf(places[0]?.url ?? ''), async function* () {
    const within = (ms: number) => Math.min(ms, answerMs)
    const { connectMs, headersMs, bodyMs, totalMs } = options.limits
    const limits = {
      ...options.limits,
      ...{
        connectMs: within(connectMs),
        headersMs: within(headersMs),
        bodyMs: within(bodyMs),
        totalMs: within(totalMs),
      },
    }
    const client = new SourceClient({ ...options, limits, attempts: 1, patienceMs: 0 })
    try {
      for (const { url } of places.slice(0, ASKED)) yield* await asked(client, url, options, signal, now)
    } finally {
      await client.close()
    }
  })
}

async function asked(
  client: SourceClient,
  url: string,
  { auth, limits }: SourceClientOptions,
  signal: AbortSignal,
  now: () => number,
): Promise<Finding[]> {
  const at = findingsAt(placeOf(url))
  const tls = url.startsWith('https:')
    ? at.ok('tls', 'encrypted, and the certificate is checked')
    : limits.allowPrivate || auth === undefined
      ? at.ok('tls', 'not encrypted')
      : at.warning('tls', 'not encrypted: credentials and records can be read on the way', 'use https://')
  const askedMs = now()
  try {
    const request = { method: 'GET', url, headers: {} } as const
    const { status, date } = await client.ask(request, signal, async (answer) => ({
      status: answer.status,
      date: Date.parse(answer.headers['date'] ?? ''),
    }))
    const clock = Number.isNaN(date)
      ? []
      : [at.clock({ systemMs: date, askedMs, answeredMs: now(), resolutionMs: 1000 })]
    const taken = auth === undefined ? '' : ', and takes the credentials'
    return [at.ok('reachable', `answers (${status})${taken}`), tls, ...clock]
  } catch (error) {
    if (signal.aborted) throw error
    // It understands nothing without the parameters of a run, but it is there.
    if (error instanceof AdflowError && / answers 4(?:00|05|22)$/.test(error.message))
      return [
        at.ok(
          'reachable',
          `${error.message.slice(error.message.indexOf(' answers') + 1)} to a request without parameters`,
        ),
        tls,
      ]
    return [at.failure('reachable', error, 'SOURCE_UNREADABLE')]
  }
}
