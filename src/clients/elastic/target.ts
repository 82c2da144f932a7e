/** What the documents go to: an index, an alias with one index to write to, or a data stream. Made and fitted to the columns. */
import { AdflowError } from '../../core/errors.ts'
import type { Field, Fields } from './fields.ts'
import type { Elastic } from './http.ts'

export interface TargetPlan {
  readonly create: boolean
  readonly evolve: boolean
  readonly stream: boolean
  readonly dynamic: 'strict' | 'false'
  /** Settings of a new index, as its user names them. */
  readonly settings: Readonly<Record<string, unknown>>
}

export interface Target {
  readonly kind: 'index' | 'alias' | 'stream'
  /** All that a search looks into. */
  readonly indices: readonly string[]
  /** The one of them that is written to. */
  readonly write: string
  readonly fields: Fields
  /** Settings by which the written index refuses writes. */
  readonly blocks: readonly string[]
}

interface IndexInfo {
  readonly aliases?: Readonly<Record<string, { readonly is_write_index?: boolean }>>
  readonly mappings?: { readonly properties?: Fields; readonly _source?: Readonly<Record<string, unknown>> }
  readonly settings?: Readonly<Record<string, string>>
  readonly data_stream?: string
}

const BLOCKS = new Set(['index.blocks.read_only', 'index.blocks.read_only_allow_delete', 'index.blocks.write'])

/** undefined: nothing has the name. @throws AdflowError STORE_MISMATCH where documents could get lost there or change */
export async function findTarget(elastic: Elastic, name: string): Promise<Target | undefined> {
  const { status, body } = await elastic.request({
    method: 'GET',
    path: [name],
    query: { flat_settings: 'true' },
    expect: [404],
    doing: `look for the index ${name}`,
  })
  if (status === 404) return undefined
  const found = Object.entries(body as Record<string, IndexInfo>)
  const indices = found.map(([index]) => index)
  const stream = found.some(([, { data_stream }]) => data_stream === name)
  const kind = stream ? 'stream' : indices.includes(name) ? 'index' : 'alias'
  const write = kind === 'stream' ? newest(found) : kind === 'alias' ? written(found, name) : found[0]
  if (write === undefined)
    throw mismatch(
      `the alias ${name} stands for ${indices.length} indexes, and none of them is the one to write to`,
      'set `is_write_index` for one of them',
    )
  const [index, { mappings, settings }] = write
  refuseForgetful(index, settings ?? {}, mappings?._source ?? {})
  const blocks = Object.entries(settings ?? {}).flatMap(([setting, value]) =>
    BLOCKS.has(setting) && value === 'true' ? [setting] : [],
  )
  return { kind, indices, write: index, fields: mappings?.properties ?? {}, blocks }
}

/** Makes the target, or makes it take `fields`. @throws AdflowError STORE_MISMATCH; then nothing was changed */
export async function fitTarget(elastic: Elastic, name: string, fields: Fields, plan: TargetPlan): Promise<Target> {
  const found = await findTarget(elastic, name)
  if (found === undefined) {
    if (!plan.create) throw missingIndex(name)
    await createTarget(elastic, name, fields, plan)
    const made = await findTarget(elastic, name)
    if (made === undefined) throw mismatch(`the index ${name} went as soon as it was made`, 'see who deletes it')
    return fitted(elastic, name, made, fields, plan)
  }
  return fitted(elastic, name, found, fields, plan)
}

/** A new index under an alias, both in one step. */
export async function createIndex(
  elastic: Elastic,
  { index, alias }: { readonly index: string; readonly alias?: string },
  fields: Fields,
  plan: TargetPlan,
): Promise<void> {
  const body = { ...template(fields, plan), ...(alias === undefined ? {} : { aliases: { [alias]: {} } }) }
  await unlessThere(elastic.request({ method: 'PUT', path: [index], body, doing: `create the index ${index}` }))
}

async function createTarget(elastic: Elastic, name: string, fields: Fields, plan: TargetPlan): Promise<void> {
  if (!plan.stream) return createIndex(elastic, { index: name }, fields, plan)
  await putTemplate(elastic, name, fields, plan)
  const doing = `create the data stream ${name}`
  await unlessThere(elastic.request({ method: 'PUT', path: ['_data_stream', name], doing }))
}

async function fitted(
  elastic: Elastic,
  name: string,
  found: Target,
  fields: Fields,
  plan: TargetPlan,
): Promise<Target> {
  const additions = additionsFor(name, fields, found, plan)
  if (Object.keys(additions).length === 0) return found
  // The next index of the stream is made of the template.
  if (plan.stream && (await hasTemplate(elastic, name))) await putTemplate(elastic, name, fields, plan, found.fields)
  const doing = `add the fields ${Object.keys(additions).join(', ')} to ${name}`
  await elastic.request({ method: 'PUT', path: [name, '_mapping'], body: { properties: additions }, doing })
  return found
}

/** The fields that the target lacks. @throws AdflowError STORE_MISMATCH where it does not fit and cannot be made to */
export function additionsFor(name: string, fields: Fields, found: Target, plan: TargetPlan): Fields {
  if (plan.stream !== (found.kind === 'stream'))
    throw mismatch(
      plan.stream ? `${name} is there, and is no data stream` : `${name} is a data stream`,
      plan.stream ? 'name another one, or leave `data_stream` out' : 'name its timestamp by `data_stream`',
    )
  const additions = missingFields(name, fields, found.fields)
  if (Object.keys(additions).length > 0 && !plan.evolve)
    throw mismatch(
      `the index ${name} has no field ${Object.keys(additions).join(', ')}`,
      'add it to the mapping, or set `evolve: true`',
    )
  return additions
}

export function missingIndex(name: string): AdflowError {
  return mismatch(`there is no index ${name}`, 'create it, or set `create: missing`')
}

/** `next`: the alias of a replace. */
export function unfinishedReplace(next: string): AdflowError {
  return mismatch(
    `${next} stands for an index with batches of a replace that never became complete`,
    'run the job once more with `write: replace`, or take over or delete that index by hand',
  )
}

function template(fields: Fields, { dynamic, settings }: TargetPlan): Record<string, unknown> {
  return {
    // Said even though it is the default: by it an acknowledged document is on disk.
    settings: { 'index.translog.durability': 'request', ...settings },
    mappings: { dynamic: dynamic === 'strict' ? 'strict' : false, properties: fields },
  }
}

function templateName(stream: string): string {
  return `adflow-${stream}`
}

async function hasTemplate(elastic: Elastic, stream: string): Promise<boolean> {
  const path = ['_index_template', templateName(stream)]
  return (await elastic.request({ method: 'GET', path, expect: [404], doing: `look for ${path[1]}` })).status !== 404
}

async function putTemplate(
  elastic: Elastic,
  stream: string,
  fields: Fields,
  plan: TargetPlan,
  older: Fields = {},
): Promise<void> {
  const path = ['_index_template', templateName(stream)]
  const body = {
    index_patterns: [stream],
    // Above the templates that come with Elasticsearch.
    priority: 500,
    data_stream: {},
    template: template({ ...older, ...fields }, plan),
  }
  await elastic.request({ method: 'PUT', path, body, doing: `write the index template ${path[1]}` })
}

/** Of two that make it at the same time the second finds it there. */
async function unlessThere(made: Promise<unknown>): Promise<void> {
  await made.catch((error: unknown) => {
    if (error instanceof AdflowError && error.details?.['type'] === 'resource_already_exists_exception') return
    if (error instanceof AdflowError && /already exists/.test(error.message)) return
    throw error
  })
}

function newest(found: readonly [string, IndexInfo][]): [string, IndexInfo] | undefined {
  const generation = (index: string) => Number(/(\d+)$/.exec(index)?.[1] ?? 0)
  return [...found].sort(([a], [b]) => generation(a) - generation(b)).at(-1)
}

function written(found: readonly [string, IndexInfo][], alias: string): [string, IndexInfo] | undefined {
  return found.length === 1 ? found[0] : found.find(([, { aliases }]) => aliases?.[alias]?.is_write_index === true)
}

/** An index that acknowledges what is not on disk, or does not keep documents as they came. */
function refuseForgetful(
  index: string,
  settings: Readonly<Record<string, string>>,
  source: Readonly<Record<string, unknown>>,
): void {
  if (settings['index.translog.durability']?.toLowerCase() === 'async')
    throw mismatch(
      `the index ${index} acknowledges documents before they are on disk (index.translog.durability: async)`,
      'set it to `request`: what a node forgets in a crash would be booked as loaded',
    )
  const mode = settings['index.mapping.source.mode'] ?? settings['index.mode'] ?? ''
  const derived = settings['index.derived_source.enabled'] === 'true'
  if (derived || /^(?:synthetic|disabled|logsdb|time_series)$/i.test(mode) || Object.keys(source).length > 0)
    throw mismatch(
      `the index ${index} does not keep documents as they are written (its \`_source\` is filtered, derived or off)`,
      'use an index that stores `_source`',
    )
}

type Family = 'number' | 'text' | 'instant' | 'object' | 'other'

const FAMILIES: Readonly<Record<Exclude<Family, 'other'>, RegExp>> = {
  number: /^(?:byte|short|integer|long|unsigned_long|half_float|float|double|scaled_float)$/,
  text: /^(?:keyword|text|wildcard|constant_keyword|match_only_text|search_as_you_type|annotated_text)$/,
  instant: /^date(?:_nanos)?$/,
  object: /^(?:object|nested|flattened|flat_object)$/,
}

/** The part of `wanted` that is not there. @throws AdflowError STORE_MISMATCH where a field is there and is another kind of thing */
function missingFields(path: string, wanted: Fields, found: Fields): Fields {
  const missing: Record<string, Field> = {}
  for (const [name, field] of Object.entries(wanted)) {
    const there = found[name]
    if (there === undefined) missing[name] = field
    else if (!takes(there, field))
      throw mismatch(
        `the index does not fit: its field ${path}.${name} is ${typeOf(there)}, the batch has ${typeOf(field)}`,
        'cast the column in a step, or load into another index',
      )
    else if (field.properties !== undefined && there.properties !== undefined) {
      const inner = missingFields(`${path}.${name}`, field.properties, there.properties)
      if (Object.keys(inner).length > 0) missing[name] = { ...(there.type && { type: there.type }), properties: inner }
    }
  }
  return missing
}

/** Of one kind: whether a value fits exactly (a number into `integer`) is for the server to say. Text takes every single value. */
function takes(there: Field, wanted: Field): boolean {
  const [own, other] = [familyOf(there), familyOf(wanted)]
  if (own === 'other' || other === 'other') return typeOf(there) === typeOf(wanted) || own === 'text'
  return own === other || (own === 'text' && other !== 'object')
}

function familyOf(field: Field): Family {
  const type = typeOf(field)
  const [family] = Object.entries(FAMILIES).find(([, pattern]) => pattern.test(type)) ?? ['other']
  return family as Family
}

function typeOf({ type }: Field): string {
  return type ?? 'object'
}

function mismatch(message: string, hint: string): AdflowError {
  return new AdflowError('STORE_MISMATCH', message, { hint })
}
