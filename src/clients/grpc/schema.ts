/** The messages of a method: from .proto files, or from the server; and both ways between bytes and ProtoJSON. */
import { existsSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import type * as Protobuf from 'protobufjs'
import type ProtoJson from 'protobufjs/ext/protojson.js'
import { AdflowError } from '../../core/errors.ts'
import type { GrpcChannel } from './channel.ts'
import { reflectedRoot } from './reflection.ts'

export interface SchemaOptions {
  /** Absolute paths; none: the server is asked. */
  readonly files: readonly string[]
  /** Absolute folders in which imports are looked for. */
  readonly folders: readonly string[]
}

/** Well-known types have forms of their own in JSON, without fields that could lack. */
const WELL_KNOWN = /^\.google\.protobuf\./

/** @throws AdflowError SOURCE_…; GrpcStatus where the server is asked and refuses */
export async function rootOf(
  options: SchemaOptions,
  service: string,
  channel: GrpcChannel,
  signal: AbortSignal,
): Promise<Protobuf.Root> {
  const root = options.files.length > 0 ? await parsedRoot(options) : await reflectedRoot(channel, service, signal)
  keepNames(root)
  root.resolveAll()
  return root
}

export class GrpcMethod {
  readonly streams: boolean
  /** `/ads.v1.Events/List` */
  readonly path: string
  readonly #json: typeof ProtoJson
  readonly #request: Protobuf.Type
  readonly #response: Protobuf.Type

  private constructor(
    json: typeof ProtoJson,
    service: string,
    { name, responseStream, resolvedRequestType, resolvedResponseType }: Protobuf.Method,
  ) {
    if (resolvedRequestType === null || resolvedResponseType === null)
      throw new AdflowError('UNEXPECTED', `${service}/${name} was not resolved`)
    this.#json = json
    this.path = `/${service}/${name}`
    this.streams = responseStream === true
    this.#request = resolvedRequestType
    this.#response = resolvedResponseType
  }

  /** `name`: `ads.v1.Events/List`. @throws AdflowError SOURCE_MISSING, SOURCE_UNSUPPORTED */
  static async find(root: Protobuf.Root, name: string): Promise<GrpcMethod> {
    const { default: json } = await import('protobufjs/ext/protojson.js')
    const [service, method] = partsOf(name)
    const services = servicesOf(root)
    const found = services.find(({ fullName }) => fullName === `.${service}`)
    const known = found?.methods[method]
    if (found === undefined || known === undefined) {
      const named = services.flatMap((one) => one.methodsArray.map((own) => `${one.fullName.slice(1)}/${own.name}`))
      throw new AdflowError('SOURCE_MISSING', `there is no method ${name}`, {
        hint:
          named.length === 0 ? 'the files in `proto` have no service' : `set \`method\` to one of ${named.join(', ')}`,
      })
    }
    if (known.requestStream === true)
      throw new AdflowError('SOURCE_UNSUPPORTED', `${name} takes a stream of requests`, {
        hint: 'only methods that take one request can be read: unary, or with a stream of answers',
      })
    return new GrpcMethod(json, service, known.resolve() as Protobuf.Method)
  }

  /** `option` names a field of the answer, keys separated by dots. @throws AdflowError SOURCE_UNSUPPORTED where there is none */
  requireField(path: readonly string[], option: string): void {
    let type: Protobuf.Type | null = this.#response
    for (const key of path) {
      const field: Protobuf.Field | undefined = type?.fieldsArray.find(({ name }) => name === key)
      if (field === undefined)
        throw new AdflowError(
          'SOURCE_UNSUPPORTED',
          `${this.#response.fullName.slice(1)} has no field \`${path.join('.')}\``,
          {
            hint: `correct \`${option}\`; its fields are ${this.#response.fieldsArray.map(({ name }) => name).join(', ') || 'none'}`,
          },
        )
      type = field.resolvedType !== null && 'fieldsArray' in field.resolvedType ? field.resolvedType : null
    }
  }

  /** @throws AdflowError SOURCE_UNSUPPORTED where the request does not fit its message */
  encode(request: unknown): Uint8Array {
    try {
      return this.#request.encode(this.#json.fromJson(this.#request, request)).finish()
    } catch (error) {
      throw new AdflowError(
        'SOURCE_UNSUPPORTED',
        `\`request\` does not fit ${this.#request.fullName.slice(1)}: ${(error as Error).message}`,
        {
          cause: error,
          hint: `its fields are ${this.#request.fieldsArray.map(({ name }) => name).join(', ') || 'none'}`,
        },
      )
    }
  }

  /** The message as ProtoJSON with the names of the .proto file, fields without a value as their defaults. @throws AdflowError SOURCE_DAMAGED */
  decode(bytes: Uint8Array): unknown {
    const type = this.#response
    try {
      return withDefaults(type, this.#json.toJson(type, type.decode(bytes)))
    } catch (error) {
      throw new AdflowError(
        'SOURCE_DAMAGED',
        `a message of ${this.path} is no ${type.fullName.slice(1)}: ${(error as Error).message}`,
        {
          cause: error,
          hint: 'the files in `proto` are not those of the server; leave `proto` out where it has reflection',
        },
      )
    }
  }
}

/** Of all namespaces. */
export function servicesOf(root: Protobuf.NamespaceBase): readonly Protobuf.Service[] {
  return root.nestedArray.flatMap((one) => {
    const nested = 'nestedArray' in one ? servicesOf(one as Protobuf.NamespaceBase) : []
    return 'methodsArray' in one ? [one as Protobuf.Service, ...nested] : nested
  })
}

/** `ads.v1.Events/List` → service and method. */
export function partsOf(name: string): readonly [service: string, method: string] {
  const slash = name.lastIndexOf('/')
  return [name.slice(0, slash), name.slice(slash + 1)]
}

async function parsedRoot({ files, folders }: SchemaOptions): Promise<Protobuf.Root> {
  const { default: protobuf } = await import('protobufjs')
  const root = new protobuf.Root()
  const plain = root.resolvePath
  root.resolvePath = (origin, target) => {
    const candidates = [...folders, ...files.map((file) => dirname(file))].map((folder) => resolve(folder, target))
    return candidates.find((path) => existsSync(path)) ?? plain(origin, target)
  }
  try {
    return await root.load([...files], { keepCase: true })
  } catch (error) {
    throw new AdflowError('SOURCE_UNSUPPORTED', `cannot read the files in \`proto\`: ${(error as Error).message}`, {
      cause: error,
      hint: 'correct the file, or name the folder of what it imports in `proto_path`',
    })
  }
}

/** JSON has the names of the .proto file, as columns do. */
function keepNames(namespace: Protobuf.NamespaceBase): void {
  for (const one of namespace.nestedArray) {
    if ('fieldsArray' in one)
      for (const field of (one as Protobuf.Type).fieldsArray)
        Object.assign(field, { jsonName: field.protoName ?? field.name })
    if ('nestedArray' in one) keepNames(one as Protobuf.NamespaceBase)
  }
}

/** ProtoJSON leaves out what has its default value; a record has it. Fields that know whether they were set stay out. */
function withDefaults(type: Protobuf.Type, json: unknown): unknown {
  if (WELL_KNOWN.test(type.fullName) || typeof json !== 'object' || json === null) return json
  const given = json as Readonly<Record<string, unknown>>
  const filled: [string, unknown][] = []
  for (const field of type.fieldsArray) {
    const name = field.jsonName ?? field.name
    const value = Object.hasOwn(given, name) ? given[name] : defaultOf(field)
    if (value === undefined) continue
    const inner = field.resolvedType
    filled.push([name, inner !== null && 'fieldsArray' in inner ? filledIn(field, inner, value) : value])
  }
  return Object.fromEntries(filled)
}

function filledIn(field: Protobuf.Field, inner: Protobuf.Type, value: unknown): unknown {
  if (Array.isArray(value)) return value.map((one) => withDefaults(inner, one))
  if (!field.map) return withDefaults(inner, value)
  return Object.fromEntries(Object.entries(value as object).map(([key, one]) => [key, withDefaults(inner, one)]))
}

/** undefined: it lacks, and that is known. */
function defaultOf(field: Protobuf.Field): unknown {
  if (field.map) return {}
  if (field.repeated) return []
  if (field.hasPresence) return undefined
  const { resolvedType, type } = field
  if (resolvedType !== null && 'fieldsArray' in resolvedType) return undefined
  if (resolvedType !== null && 'valuesById' in resolvedType) return resolvedType.valuesById[0] ?? 0
  if (/64$/.test(type)) return '0'
  if (type === 'bool') return false
  return type === 'string' || type === 'bytes' ? '' : 0
}
