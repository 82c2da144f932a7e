/** Metrics that a server knows, with their types and help; or those of a page. */
import type { DiscoverEnv, Offer } from '../../core/discovery.ts'
import { placeOf } from '../http/source-client.ts'
import type { PrometheusApi } from './api.ts'
import { exposed } from './exposition.ts'

type Metadata = Readonly<Record<string, readonly { readonly type: string; readonly help: string }[]>>

/** Of several servers: those of the first one. Closes `api`. */
export async function* discoverMetrics(
  url: string,
  mode: 'range' | 'instant' | 'scrape',
  api: PrometheusApi,
  { signal }: DiscoverEnv,
): AsyncGenerator<Offer> {
  try {
    if (mode === 'scrape') return yield* pageMetrics(url, api, signal)
    const names = await api.tell<readonly string[]>(url, 'label/__name__/values', signal)
    // Some that speak the API know no metadata: then names are all that there is.
    const metadata: Metadata = await api.tell<Metadata>(url, 'metadata', signal).catch(() => ({}))
    signal.throwIfAborted()
    for (const name of [...names].sort()) {
      const [known] = metadata[name] ?? []
      const about = known === undefined ? undefined : `${known.type}: ${known.help}`
      yield { kind: 'metric', name, about, options: { queries: { [queryName(name)]: queryOf(name) } } }
    }
  } finally {
    await api.close()
  }
}

async function* pageMetrics(url: string, api: PrometheusApi, signal: AbortSignal): AsyncGenerator<Offer> {
  const { text, contentType } = await api.scrape(url, signal)
  const counts = new Map<string, { records: number; readonly type: string }>()
  for (const { name, type } of exposed(text, contentType, placeOf(url))) {
    const known = counts.get(name)
    if (known === undefined) counts.set(name, { records: 1, type })
    else known.records += 1
  }
  for (const [name, { records, type }] of [...counts].sort(([a], [b]) => (a < b ? -1 : 1)))
    yield { kind: 'metric', name, records, about: type, options: {} }
}

/** A name of any characters as a query. */
function queryOf(name: string): string {
  return /^[A-Za-z_:][\w:]*$/.test(name) ? name : `{__name__=${JSON.stringify(name)}}`
}

function queryName(name: string): string {
  return name.replace(/[/\s]/g, '_')
}
