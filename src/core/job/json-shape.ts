/** Questions to an option schema, asked of its JSON Schema: what may stand at a path, and what is said about it. */
import { z } from 'zod'
import type { Path } from './places.ts'

/** The part of JSON Schema (draft 7) that zod writes. */
export interface JsonSchema {
  [keyword: string]: unknown
  type?: string
  properties?: Record<string, JsonSchema>
  required?: string[]
  additionalProperties?: boolean | JsonSchema
  items?: JsonSchema | JsonSchema[]
  anyOf?: JsonSchema[]
  oneOf?: JsonSchema[]
  allOf?: JsonSchema[]
  description?: string
  enum?: unknown[]
  const?: unknown
  default?: unknown
  $ref?: string
  definitions?: Record<string, JsonSchema>
}

/** JSON Schema of what stands in a job file, before defaults and conversions. */
export function jsonShape(schema: z.ZodType): JsonSchema {
  const {
    $schema: _,
    '~standard': __,
    ...shape
  } = z.toJSONSchema(schema, { io: 'input', target: 'draft-7' }) as JsonSchema
  return shape
}

/** Unknown keys of the map are errors, whether its author thought of it or not. */
export function strict<Schema extends z.ZodType>(schema: Schema): Schema {
  const open = schema instanceof z.ZodObject && schema.def.catchall === undefined
  return open ? (schema.strict() as unknown as Schema) : schema
}

/** Alternatives of a schema, references followed. */
export function alternatives(schema: JsonSchema, root: JsonSchema): JsonSchema[] {
  if (schema.$ref !== undefined) {
    const name = schema.$ref.replace('#/definitions/', '')
    const target = schema.$ref === '#' ? root : root.definitions?.[name]
    return target === undefined ? [] : alternatives(target, root)
  }
  const nested = [...(schema.anyOf ?? []), ...(schema.oneOf ?? []), ...(schema.allOf ?? [])]
  return nested.length === 0 ? [schema] : [schema, ...nested.flatMap((each) => alternatives(each, root))]
}

/** Every schema that may apply at the path. */
export function schemasAt(root: JsonSchema, path: Path): JsonSchema[] {
  let current = alternatives(root, root)
  for (const part of path)
    current = current.flatMap((schema) => child(schema, part).flatMap((s) => alternatives(s, root)))
  return current
}

function child(schema: JsonSchema, part: string | number): JsonSchema[] {
  if (typeof part === 'number') return schema.items === undefined ? [] : [schema.items].flat()
  const property = schema.properties?.[part]
  if (property !== undefined) return [property]
  return typeof schema.additionalProperties === 'object' ? [schema.additionalProperties] : []
}

/** Keys that the map at the path may have. */
export function keysAt(root: JsonSchema, path: Path): string[] {
  return [...new Set(schemasAt(root, path).flatMap((schema) => Object.keys(schema.properties ?? {})))]
}

export function descriptionAt(root: JsonSchema, path: Path): string | undefined {
  return schemasAt(root, path).find((schema) => schema.description !== undefined)?.description
}
