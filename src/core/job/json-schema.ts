/** JSON Schema of a job file, for editors: the sections from core/job/schema.ts, the options from the components. */
import { z } from 'zod'
import type { ComponentKind, Registry } from '../registry.ts'
import { takesId } from './components.ts'
import { extractBase } from './extract-keys.ts'
import { identifier } from './identifier.ts'
import { type JsonSchema, jsonShape, strict } from './json-shape.ts'
import { distributeBase, jobDocument, loadBase, ruleKinds } from './schema.ts'

/** A variable may stand where a number, a boolean or one of a few words is wanted. */
const SUBSTITUTION: JsonSchema = { $ref: '#/definitions/substitution' }

export async function jobJsonSchema(registry: Registry): Promise<JsonSchema> {
  const shape = jsonShape(jobDocument)
  const properties = shape.properties ?? {}
  const rules = Object.values(ruleKinds).map((rule) => jsonShape(rule))
  const sections: Record<string, JsonSchema> = {
    ...properties,
    extract: { ...properties['extract'], additionalProperties: await components(registry, 'extractor', extractBase) },
    validate: { ...properties['validate'], items: { anyOf: rules } },
    transform: { ...properties['transform'], items: await steps(registry) },
    load: { ...properties['load'], additionalProperties: await components(registry, 'loader', loadBase) },
    distribute: {
      ...properties['distribute'],
      additionalProperties: await components(registry, 'consumer', distributeBase),
    },
    lineage: await lineage(registry, properties['lineage']),
  }
  const { version, ...variable } = sections
  return {
    $schema: 'http://json-schema.org/draft-07/schema#',
    title: 'adflow job',
    ...shape,
    properties: { ...(version === undefined ? {} : { version }), ...mapValues(variable, withSubstitution) },
    definitions: { ...shape.definitions, substitution: { type: 'string', pattern: '\\$\\{[^}]+\\}' } },
  }
}

async function lineage(registry: Registry, section: JsonSchema = {}): Promise<JsonSchema> {
  const { transport, ...others } = section.properties ?? {}
  const about = transport?.description === undefined ? {} : { description: transport.description }
  return {
    ...section,
    properties: { ...others, transport: { ...(await components(registry, 'transport', {})), ...about } },
  }
}

/** An entry of extract, load or distribute: its type decides on the other keys. */
async function components(registry: Registry, kind: ComponentKind, base: z.core.$ZodShape): Promise<JsonSchema> {
  const types = registry.types(kind)
  const baseKeys = jsonShape(z.strictObject(base)).properties ?? {}
  const cases: JsonSchema[] = []
  const choices: JsonSchema[] = []
  for (const type of types) {
    const { summary, options } = await registry.get(kind, type)
    choices.push({ const: type, description: summary })
    cases.push({
      if: { properties: { type: { const: type } }, required: ['type'] },
      // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema.
      then: withKeys(jsonShape(strict(options)), { type: { const: type, description: summary }, ...baseKeys }),
    })
  }
  return {
    type: 'object',
    properties: {
      type: { description: 'Type of the component.', type: 'string', ...some('anyOf', choices) },
      ...baseKeys,
    },
    required: ['type'],
    ...some('allOf', cases),
  }
}

/** An empty list is no valid JSON Schema. */
function some(word: string, list: readonly JsonSchema[]): JsonSchema {
  return list.length === 0 ? {} : { [word]: list }
}

/** Options of a component with the keys of every entry among them: a closed map cannot be extended from outside. */
function withKeys(schema: JsonSchema, keys: Record<string, JsonSchema>): JsonSchema {
  const result = { ...schema }
  for (const word of ['anyOf', 'oneOf', 'allOf'] as const)
    if (schema[word] !== undefined) result[word] = schema[word].map((each) => withKeys(each, keys))
  return schema.type === 'object' ? { ...result, properties: { ...keys, ...schema.properties } } : result
}

/** One verb and perhaps an id. */
async function steps(registry: Registry): Promise<JsonSchema> {
  const id = { ...jsonShape(identifier), description: 'Name of the step, for loaders and lineage.' }
  const verbs: Record<string, JsonSchema> = {}
  for (const verb of registry.types('step')) {
    const { summary, options } = await registry.get('step', verb)
    const schema = jsonShape(strict(options))
    verbs[verb] = { ...(takesId(options) ? withKeys(schema, { id }) : schema), description: summary }
  }
  return {
    type: 'object',
    properties: { id, ...verbs },
    additionalProperties: false,
    ...some(
      'oneOf',
      Object.keys(verbs).map((verb) => ({ required: [verb] })),
    ),
  }
}

/** Adds the substitution wherever plain text would not be accepted anyway. */
function withSubstitution(schema: JsonSchema): JsonSchema {
  const { if: condition, ...rest } = schema
  const inner = Object.fromEntries(
    Object.entries(rest).map(([word, value]) => [word, nested(word, value)]),
  ) as JsonSchema
  const whole = condition === undefined ? inner : { if: condition, ...inner }
  const narrow = ['number', 'integer', 'boolean'].includes(schema.type ?? '') || schema.enum !== undefined
  if (!narrow) return whole
  const { description, default: preset, ...own } = whole
  const about = {
    ...(description === undefined ? {} : { description }),
    ...(preset === undefined ? {} : { default: preset }),
  }
  return { ...about, anyOf: [own, SUBSTITUTION] }
}

function nested(word: string, value: unknown): unknown {
  if (word === 'properties') return mapValues(value as Record<string, JsonSchema>, withSubstitution)
  if (['anyOf', 'oneOf', 'allOf'].includes(word)) return (value as JsonSchema[]).map(withSubstitution)
  const schema = typeof value === 'object' && value !== null
  if (['additionalProperties', 'items', 'then'].includes(word) && schema) return withSubstitution(value as JsonSchema)
  return value
}

function mapValues<T, U>(map: Readonly<Record<string, T>>, change: (value: T) => U): Record<string, U> {
  return Object.fromEntries(Object.entries(map).map(([key, value]) => [key, change(value)]))
}
