/** Values as another implementation of Avro (avsc) writes them. */
import avro from 'avsc'

/** Of 64 bits, as bigint. */
const long = avro.types.LongType.__with(
  {
    fromBuffer: (bytes: Buffer) => bytes.readBigInt64LE(),
    toBuffer: (value: bigint) => {
      const bytes = Buffer.alloc(8)
      bytes.writeBigInt64LE(BigInt(value))
      return bytes
    },
    fromJSON: BigInt,
    toJSON: String,
    isValid: (value: unknown) => typeof value === 'bigint' || Number.isInteger(value),
    compare: (a: bigint, b: bigint) => (a < b ? -1 : a > b ? 1 : 0),
  },
  false,
)

/** Unions are wrapped: `{ string: 'a' }`. */
export function avroType(schema: unknown): avro.Type {
  // A long with attributes is not looked up among the names.
  const typeHook = (own: avro.Schema) => ((own as { type?: unknown }).type === 'long' ? long : undefined)
  const options = { registry: { long }, wrapUnions: true, typeHook } as Parameters<typeof avro.Type.forSchema>[1]
  return avro.Type.forSchema(schema as avro.Schema, options)
}

export function avroBytes(schema: unknown, value: unknown): Buffer {
  return avroType(schema).toBuffer(value)
}

/** With the head of a schema registry. */
export function registryValue(id: number, value: Buffer): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt32BE(id, 1)
  return Buffer.concat([head, value])
}
