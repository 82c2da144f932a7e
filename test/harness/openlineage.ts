/** Validates lineage events against the published schemas of OpenLineage (test/fixtures/openlineage). */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'

const FOLDER = fileURLToPath(new URL('../fixtures/openlineage', import.meta.url))

// The published schemas use keywords that are none (`example`): `strict` would refuse them, not what they describe.
const ajv = new Ajv2020({ strict: false, allErrors: true })
addFormats.default(ajv)
for (const file of ['OpenLineage.json', ...readdirSync(join(FOLDER, 'facets')).map((name) => `facets/${name}`)])
  ajv.addSchema(JSON.parse(readFileSync(join(FOLDER, file), 'utf8')))

export type LineageEvent = Record<string, never> & {
  readonly eventType: string
  readonly run: { readonly runId: string; readonly facets: Record<string, Record<string, unknown>> }
  // biome-ignore lint/suspicious/noExplicitAny: an event is asked for whatever a test looks at.
  readonly inputs: any[]
  // biome-ignore lint/suspicious/noExplicitAny: the same.
  readonly outputs: any[]
  // biome-ignore lint/suspicious/noExplicitAny: the same.
  readonly job: any
}

export function eventsOf(path: string): LineageEvent[] {
  const lines = readFileSync(path, 'utf8').split('\n').filter(Boolean)
  return lines.map((line) => JSON.parse(line) as LineageEvent)
}

/** What is wrong with an event: by the core schema, and each facet by the schema that it names. */
export function mistakesIn(event: unknown): string[] {
  const core = 'https://openlineage.io/spec/2-0-2/OpenLineage.json'
  return [...check(core, event, ''), ...facetsIn(event, '').flatMap(([path, url, facet]) => check(url, facet, path))]
}

/** Names of all facets of an event, each once. */
export function facetNames(event: unknown): string[] {
  return [...new Set(facetsIn(event, '').map(([path]) => path.split('/').at(-1) ?? ''))].sort()
}

function facetsIn(value: unknown, path: string): [path: string, url: string, facet: unknown][] {
  if (value === null || typeof value !== 'object') return []
  const url = (value as Readonly<Record<string, unknown>>)['_schemaURL']
  const own: [string, string, unknown][] = typeof url === 'string' ? [[path, url, value]] : []
  return [...own, ...Object.entries(value).flatMap(([key, child]) => facetsIn(child, `${path}/${key}`))]
}

function check(url: string, value: unknown, path: string): string[] {
  const validate = ajv.getSchema(url)
  if (validate === undefined) return [`${path}: there is no schema ${url}`]
  if (validate(value)) return []
  return (validate.errors ?? []).map(({ instancePath, message }) => `${path}${instancePath} ${message}`)
}
