/** A Prometheus before a run asks it: its version, its clock, and whether it understands the queries. */
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { diagnosisAt, type Findings, findingsAt } from '../../core/findings.ts'
import { placeOf } from '../http/source-client.ts'
import type { PrometheusApi } from './api.ts'
import { exposed } from './exposition.ts'

interface Asked {
  readonly servers: Readonly<Record<string, string>>
  readonly queries: Readonly<Record<string, string>>
  readonly mode: 'range' | 'instant' | 'scrape'
  readonly lagMs: number
}

/** Servers, and queries of each, that are asked. */
const ASKED = 5

export function diagnosePrometheus(
  { servers, queries, mode, lagMs }: Asked,
  api: PrometheusApi,
  { signal, now }: DiagnoseEnv,
): Diagnosis {
  const urls = Object.values(servers)
  return diagnosisAt(placeOf(urls[0] ?? ''), async function* () {
    try {
      for (const url of urls.slice(0, ASKED)) {
        const at = findingsAt(placeOf(url))
        if (mode === 'scrape') yield await scraped(at, api, url, signal)
        else yield* asked(at, api, url, queries, now() - lagMs, signal, now)
        if (url.startsWith('https:')) yield at.ok('tls', 'encrypted, and the certificate is checked')
      }
    } finally {
      await api.close()
    }
  })
}

async function scraped(at: Findings, api: PrometheusApi, url: string, signal: AbortSignal): Promise<Finding> {
  try {
    const { text, contentType } = await api.scrape(url, signal)
    const samples = [...exposed(text, contentType, placeOf(url))].length
    return at.ok('reachable', `answers with ${samples} samples`)
  } catch (error) {
    return at.failure('reachable', error, 'SOURCE_UNREADABLE')
  }
}

async function* asked(
  at: Findings,
  api: PrometheusApi,
  url: string,
  queries: Readonly<Record<string, string>>,
  atMs: number,
  signal: AbortSignal,
  now: () => number,
): AsyncGenerator<Finding> {
  const askedMs = now()
  try {
    const systemMs = await api.clock(url, signal)
    yield at.ok('reachable', 'answers')
    yield at.clock({ systemMs, askedMs, answeredMs: now() })
  } catch (error) {
    yield at.failure('reachable', error, 'SOURCE_UNREADABLE')
    return
  }
  const version = await api
    .tell<{ version?: string }>(url, 'status/buildinfo', signal)
    .catch(() => ({ version: undefined }))
  if (version.version !== undefined) yield at.ok('version', `Prometheus ${version.version}`)
  for (const [name, query] of Object.entries(queries).slice(0, ASKED)) {
    try {
      const { series, warnings } = await api.query(url, query, atMs, signal)
      const [warning] = warnings
      if (warning !== undefined)
        yield at.warning('target', `\`${name}\` is answered with a warning: ${warning}`, 'mend what it names there')
      else if (series.length === 0)
        yield at.warning('target', `\`${name}\` gives nothing now`, 'check the query, and that its metrics are scraped')
      else yield at.ok('target', `\`${name}\` gives ${series.length} series now`)
    } catch (error) {
      yield at.failure('target', error, 'SOURCE_UNREADABLE')
    }
  }
}
