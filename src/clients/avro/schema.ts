/** Schemas of Apache Avro 1.12: from JSON to a tree whose names are resolved. https://avro.apache.org/docs/1.12.0/specification/ */

export type Primitive = 'null' | 'boolean' | 'int' | 'long' | 'float' | 'double' | 'bytes' | 'string'

/** What a type means beyond its bytes. Those that a type cannot have are passed over, as Avro asks for. */
export type Logical =
  | { readonly is: 'decimal'; readonly scale: number }
  | { readonly is: 'date' | 'uuid' | 'duration' }
  | { readonly is: 'time' | 'timestamp' | 'local-timestamp'; readonly digits: 3 | 6 | 9 }

export type AvroSchema =
  | { readonly kind: Primitive; readonly logical?: Logical | undefined }
  | { readonly kind: 'fixed'; readonly size: number; readonly logical?: Logical | undefined }
  | { readonly kind: 'enum'; readonly symbols: readonly string[] }
  | { readonly kind: 'array' | 'map'; readonly items: AvroSchema }
  | { readonly kind: 'union'; readonly branches: readonly AvroSchema[] }
  /** `fields` are filled in last: a record may hold itself. */
  | { readonly kind: 'record'; readonly name: string; readonly fields: readonly AvroField[] }

export interface AvroField {
  readonly name: string
  readonly type: AvroSchema
}

/** Full name → schema. Shared by a schema and those that it refers to. */
export type SchemaNames = Map<string, AvroSchema>

/** Says what is wrong, to be put behind the name of the schema: "has no type `Money`". */
export class SchemaError extends Error {
  override readonly name = 'SchemaError'
}

type Json = Readonly<Record<string, unknown>>

const PRIMITIVES: ReadonlySet<string> = new Set<Primitive>([
  'null',
  'boolean',
  'int',
  'long',
  'float',
  'double',
  'bytes',
  'string',
])
const NAME = /^[A-Za-z_][A-Za-z0-9_]*$/
const DIGITS = { millis: 3, micros: 6, nanos: 9 } as const
const DEEPEST = 100

/** @throws SchemaError */
export function parseSchema(text: string, names: SchemaNames = new Map()): AvroSchema {
  let json: unknown
  try {
    json = JSON.parse(text)
  } catch {
    // The name of a primitive stands in a registry without quotes, too.
    if (!PRIMITIVES.has(text.trim())) throw new SchemaError('is no JSON')
    json = text.trim()
  }
  return schemaOf(json, names)
}

/** @throws SchemaError */
export function schemaOf(json: unknown, names: SchemaNames = new Map()): AvroSchema {
  return new Parser(names).parse(json, '', 0)
}

class Parser {
  readonly #names: SchemaNames

  constructor(names: SchemaNames) {
    this.#names = names
  }

  parse(json: unknown, namespace: string, depth: number): AvroSchema {
    if (depth > DEEPEST) throw new SchemaError(`is nested deeper than ${DEEPEST} types`)
    if (typeof json === 'string') return this.#named(json, namespace)
    if (Array.isArray(json)) return this.#union(json, namespace, depth)
    if (!isObject(json)) throw new SchemaError(`has ${JSON.stringify(json) ?? 'nothing'} in the place of a type`)
    const { type } = json
    if (typeof type !== 'string') return this.parse(type, namespace, depth + 1)
    switch (type) {
      case 'record':
      case 'error':
        return this.#record(json, namespace, depth)
      case 'enum':
        return this.#define(json, namespace, { kind: 'enum', symbols: symbolsOf(json) })
      case 'fixed':
        return this.#define(json, namespace, fixedOf(json))
      case 'array':
        return { kind: 'array', items: this.parse(json['items'], namespace, depth + 1) }
      case 'map':
        return { kind: 'map', items: this.parse(json['values'], namespace, depth + 1) }
    }
    if (!isPrimitive(type)) return this.#named(type, namespace)
    return { kind: type, logical: logicalOf(json, type) }
  }

  #named(name: string, namespace: string): AvroSchema {
    if (isPrimitive(name)) return { kind: name }
    const full = name.includes('.') || namespace === '' ? name : `${namespace}.${name}`
    const found = this.#names.get(full) ?? this.#names.get(name)
    if (found === undefined) throw new SchemaError(`has no type \`${full}\``)
    return found
  }

  #union(json: readonly unknown[], namespace: string, depth: number): AvroSchema {
    if (json.length === 0) throw new SchemaError('has a union of nothing')
    const branches = json.map((branch) => this.parse(branch, namespace, depth + 1))
    if (branches.some(({ kind }) => kind === 'union')) throw new SchemaError('has a union inside a union')
    return { kind: 'union', branches }
  }

  #record(json: Json, namespace: string, depth: number): AvroSchema {
    const fields: AvroField[] = []
    const record = { kind: 'record', name: fullName(json, namespace), fields } as const
    this.#define(json, namespace, record)
    const inside = record.name.split('.').slice(0, -1).join('.')
    const listed = json['fields']
    if (!Array.isArray(listed)) throw new SchemaError(`has a record \`${record.name}\` without \`fields\``)
    for (const field of listed) {
      const name: unknown = isObject(field) ? field['name'] : undefined
      if (typeof name !== 'string' || !NAME.test(name))
        throw new SchemaError(`has a field without a proper name in \`${record.name}\``)
      if (fields.some((other) => other.name === name))
        throw new SchemaError(`has the field \`${name}\` twice in \`${record.name}\``)
      fields.push({ name, type: this.parse((field as Json)['type'], inside, depth + 1) })
    }
    return record
  }

  #define(json: Json, namespace: string, schema: AvroSchema): AvroSchema {
    const name = fullName(json, namespace)
    if (this.#names.has(name)) throw new SchemaError(`has the type \`${name}\` twice`)
    this.#names.set(name, schema)
    return schema
  }
}

function fullName(json: Json, namespace: string): string {
  const { name } = json
  if (typeof name !== 'string' || !name.split('.').every((part) => NAME.test(part)))
    throw new SchemaError(`has a type without a proper name: ${JSON.stringify(name) ?? 'none'}`)
  if (name.includes('.')) return name
  const own = typeof json['namespace'] === 'string' ? json['namespace'] : namespace
  return own === '' ? name : `${own}.${name}`
}

function symbolsOf({ symbols }: Json): string[] {
  if (!Array.isArray(symbols) || !symbols.every((symbol) => typeof symbol === 'string'))
    throw new SchemaError('has an enum without `symbols`')
  return symbols as string[]
}

function fixedOf(json: Json): AvroSchema {
  const { size } = json
  if (typeof size !== 'number' || !Number.isInteger(size) || size < 0)
    throw new SchemaError('has a fixed without `size`')
  return { kind: 'fixed', size, logical: logicalOf(json, 'fixed', size) }
}

function logicalOf(json: Json, type: Primitive | 'fixed', size?: number): Logical | undefined {
  const { logicalType, precision, scale = 0 } = json
  if (typeof logicalType !== 'string') return undefined
  if (logicalType === 'decimal' && (type === 'bytes' || type === 'fixed')) {
    const whole = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0
    return whole(precision) && whole(scale) && scale <= precision ? { is: 'decimal', scale } : undefined
  }
  if (logicalType === 'date' && type === 'int') return { is: 'date' }
  if (logicalType === 'uuid' && (type === 'string' || size === 16)) return { is: 'uuid' }
  if (logicalType === 'duration' && size === 12) return { is: 'duration' }
  const [, is, unit] = /^(time|timestamp|local-timestamp)-(millis|micros|nanos)$/.exec(logicalType) ?? []
  if (is === undefined) return undefined
  const wanted = is === 'time' && unit === 'millis' ? 'int' : 'long'
  if (type !== wanted || (is === 'time' && unit === 'nanos')) return undefined
  return { is: is as 'time', digits: DIGITS[unit as keyof typeof DIGITS] }
}

function isPrimitive(name: string): name is Primitive {
  return PRIMITIVES.has(name)
}

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
