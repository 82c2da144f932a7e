/** Values of Avro one by one, as JSON: by the schema of the job, or by the id that stands before each. */
import type { HostGate } from '../../core/source-watch.ts'
import { NotAvro } from './binary.ts'
import { AvroDecoder } from './decoder.ts'
import { JsonBytes, TooLong } from './json-bytes.ts'
import { type AvroOptions, jobSchema } from './options.ts'
import { SchemaRegistry } from './registry.ts'

/** A zero byte, and the id of the schema in four. */
const HEAD_BYTES = 5

/** Schemas of a source. Shared by its lanes. */
export class AvroSchemas {
  readonly fixed: AvroDecoder | undefined
  readonly registry: SchemaRegistry | undefined

  /** @throws AdflowError JOB_INVALID */
  constructor(options: AvroOptions, baseDir: string, hosts?: HostGate) {
    const schema = jobSchema(options, baseDir)
    this.fixed = schema === undefined ? undefined : new AvroDecoder(schema)
    this.registry = options.registry === undefined ? undefined : new SchemaRegistry(options.registry, baseDir, hosts)
  }

  async close(): Promise<void> {
    await this.registry?.close()
  }
}

/** What read() returns holds until its next call: lanes may share one. */
export class AvroValues {
  readonly #schemas: AvroSchemas
  readonly #signal: AbortSignal
  readonly #out: JsonBytes

  constructor(schemas: AvroSchemas, maxRecordBytes: number, signal: AbortSignal) {
    this.#schemas = schemas
    this.#signal = signal
    this.#out = new JsonBytes(maxRecordBytes)
  }

  /** Whether prepare() must be waited for before this value can be read. */
  needs(bytes: Buffer, at: number, end: number): boolean {
    const { registry } = this.#schemas
    return registry !== undefined && hasHead(bytes, at, end) && registry.known(bytes.readUInt32BE(at + 1)) === undefined
  }

  /** Fetches the schema. @throws AdflowError SOURCE_… where the registry cannot be asked */
  async prepare(bytes: Buffer, at: number): Promise<void> {
    await this.#schemas.registry?.fetch(bytes.readUInt32BE(at + 1), this.#signal)
  }

  /** The JSON of the value, until the next call; or why there is none: 'too long', or a sentence. */
  read(bytes: Buffer, at: number, end: number): Buffer | string {
    const { fixed, registry } = this.#schemas
    if (fixed !== undefined) return this.#decoded(fixed, bytes, at, end)
    if (!hasHead(bytes, at, end)) return 'the value does not begin with a zero byte and the id of a schema'
    const known = registry?.known(bytes.readUInt32BE(at + 1))
    if (known === undefined || 'fault' in known) return `the value ${known?.fault ?? 'is of no known schema'}`
    return this.#decoded(known.decoder, bytes, at + HEAD_BYTES, end)
  }

  #decoded(decoder: AvroDecoder, bytes: Buffer, at: number, end: number): Buffer | string {
    const out = this.#out
    out.length = 0
    try {
      decoder.decode(bytes, at, end, out)
      return out.bytes.subarray(0, out.length)
    } catch (error) {
      if (error instanceof NotAvro) return `the value ${error.message}: it is not of its schema, or damaged`
      if (error instanceof TooLong) return TOO_LONG
      throw error
    }
  }
}

/** Of a value whose JSON has more bytes than a record may have. */
export const TOO_LONG = 'too long'

function hasHead(bytes: Buffer, at: number, end: number): boolean {
  return end - at >= HEAD_BYTES && bytes[at] === 0
}
