/** A schema registry with the API of Confluent: schemas by their ids, each asked for once. */
import { AdflowError } from '../../core/errors.ts'
import type { HostGate } from '../../core/source-watch.ts'
import { tlsMaterial } from '../../core/tls.ts'
import { placeOf, SourceClient, type SourceClientOptions } from '../http/source-client.ts'
import { AvroDecoder } from './decoder.ts'
import type { RegistryOptions } from './options.ts'
import { parseSchema, SchemaError, type SchemaNames } from './schema.ts'

/** Reads values of one id, or says why nobody can: such values are quarantined. */
export type Known = { readonly decoder: AvroDecoder } | { readonly fault: string }

interface Reference {
  readonly subject: string
  readonly version: number
}

interface Registered {
  readonly schema: string
  readonly schemaType: string
  readonly references: readonly Reference[]
}

/** Schemas that are kept; of damaged values each may ask for another. */
const MOST_KNOWN = 10_000
const MOST_BYTES = 16 << 20
/** Schemas that one refers to, all together. */
const MOST_REFERENCES = 500
const RETRY = { initialMs: 200, maxMs: 5000, patienceMs: 30_000 }
const JSON_TYPE = 'application/vnd.schemaregistry.v1+json, application/json'
/** `error_code`s by which a registry says that it has no such schema, subject or version: a proxy that answers 404 says none. */
const UNKNOWN = new Set([40401, 40402, 40403])

/** Thrown through the client: the registry has answered that it has nothing there. */
class NotThere extends AdflowError {}

export class SchemaRegistry {
  readonly #base: string
  readonly #client: SourceClient
  readonly #known = new Map<number, Known>()

  constructor(options: RegistryOptions, baseDir: string, hosts?: HostGate) {
    this.#base = options.url.replace(/\/+$/, '')
    this.#client = new SourceClient({ ...registryClient(options, baseDir), hosts })
  }

  get place(): string {
    return placeOf(this.#base)
  }

  /** Of a schema that has been asked for. */
  known(id: number): Known | undefined {
    return this.#known.get(id)
  }

  /** @throws AdflowError SOURCE_… where the registry cannot be asked */
  async fetch(id: number, signal: AbortSignal): Promise<Known> {
    const known = this.#known.get(id) ?? (await this.#ask(id, signal))
    if (this.#known.size >= MOST_KNOWN) this.#known.clear()
    this.#known.set(id, known)
    return known
  }

  /** Which kinds of schemas it keeps. */
  async types(signal: AbortSignal): Promise<unknown> {
    return this.#get('/schemas/types', signal)
  }

  async close(): Promise<void> {
    await this.#client.close()
  }

  async #ask(id: number, signal: AbortSignal): Promise<Known> {
    try {
      const found = await this.#registered(`/schemas/ids/${id}`, signal)
      if (found.schemaType !== 'AVRO')
        return { fault: `is of the schema ${id}, which is ${found.schemaType}, not Avro` }
      const names: SchemaNames = new Map()
      await this.#refer(found.references, names, new Set(), signal)
      return { decoder: new AvroDecoder(parseSchema(found.schema, names)) }
    } catch (error) {
      if (error instanceof NotThere) return { fault: `is of the schema ${id}, which the registry does not know` }
      if (error instanceof SchemaError) return { fault: `is of the schema ${id}, which ${error.message}` }
      throw error
    }
  }

  /** What a schema refers to comes first, once each. */
  async #refer(
    references: readonly Reference[],
    names: SchemaNames,
    seen: Set<string>,
    signal: AbortSignal,
  ): Promise<void> {
    for (const { subject, version } of references) {
      const path = `/subjects/${encodeURIComponent(subject)}/versions/${version}`
      if (seen.has(path)) continue
      seen.add(path)
      if (seen.size > MOST_REFERENCES) throw new SchemaError(`refers to more than ${MOST_REFERENCES} others`)
      const found = await this.#registered(path, signal)
      await this.#refer(found.references, names, seen, signal)
      parseSchema(found.schema, names)
    }
  }

  async #registered(path: string, signal: AbortSignal): Promise<Registered> {
    const answer = await this.#get(path, signal)
    const { schema, schemaType = 'AVRO', references = [] } = (answer ?? {}) as Partial<Registered>
    const sound = references.every(
      (reference) => typeof reference?.subject === 'string' && Number.isInteger(reference.version),
    )
    if (typeof schema !== 'string' || typeof schemaType !== 'string' || !sound)
      throw this.#odd(path, 'answers without a schema')
    return { schema, schemaType, references }
  }

  async #get(path: string, signal: AbortSignal): Promise<unknown> {
    const url = `${this.#base}${path}`
    const request = {
      ...{ method: 'GET' as const, url, headers: { accept: JSON_TYPE } },
      explain: (status: number, said: string) => this.#refusal(path, status, said),
    }
    const text = await this.#client.ask(request, signal, async ({ body }) => {
      const parts: Buffer[] = []
      for (let bytes = 0; ; ) {
        const part = Buffer.allocUnsafe(64 << 10)
        const count = await body.read(part, 0, part.length)
        if (count === 0) return Buffer.concat(parts).toString()
        bytes += count
        if (bytes > MOST_BYTES) throw this.#odd(path, `answers more than ${MOST_BYTES} bytes`)
        parts.push(part.subarray(0, count))
      }
    })
    return parsed(text) ?? Promise.reject(this.#odd(path, 'answers something that is no JSON'))
  }

  #refusal(path: string, status: number, said: string): Error | undefined {
    if (status !== 404) return undefined
    const code = (parsed(said) as { error_code?: unknown } | undefined)?.error_code
    return UNKNOWN.has(Number(code))
      ? new NotThere('SOURCE_MISSING', `${this.#base}${path} is not there`)
      : this.#odd(path, 'answers 404, and not as a registry does')
  }

  #odd(path: string, found: string): AdflowError {
    return new AdflowError('SOURCE_UNREADABLE', `${placeOf(this.#base + path)} ${found}`, {
      hint: 'check `registry.url`: it needs the path under which the registry speaks the API of Confluent',
    })
  }
}

function registryClient(options: RegistryOptions, baseDir: string): SourceClientOptions {
  const { timeout, attempts, auth, tls, allow_private: allowPrivate } = options
  return {
    auth,
    limits: {
      ...{ connectMs: timeout, headersMs: timeout, bodyMs: timeout, totalMs: timeout, allowPrivate },
      ...(tls === undefined ? {} : { tls: tlsMaterial(tls, baseDir) }),
    },
    body: { maxRatio: 200, maxBytes: MOST_BYTES },
    ...{ concurrency: 4, perSecond: undefined, attempts, ...RETRY },
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown
  } catch {
    return undefined
  }
}
