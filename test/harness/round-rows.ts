/** Rows of a round, as each kind of source has them: an id beyond 2^53, a decimal that no double holds, a name. */

const FIRST_ID = 9_007_199_254_740_993n
/** Series of Prometheus that have a sample at the same point. */
const SERIES = 1000
const STEP_SECONDS = 600
/** 2023-11-14T22:10:00Z, a multiple of the step. */
export const BEGIN_SECONDS = 1_699_999_800

/** Of Avro. */
export const AVRO = {
  type: 'record',
  name: 'Row',
  fields: [
    { name: 'id', type: 'long' },
    { name: 'micros', type: ['null', { type: 'bytes', logicalType: 'decimal', precision: 38, scale: 18 }] },
    { name: 'name', type: 'string' },
  ],
}

/** A decimal of 18 digits behind the point, which no double holds. */
function microsOf(index: number): bigint {
  return BigInt(index) * 10n ** 18n + 123_456_789_012_345_678n + BigInt(index)
}

function decimal(micros: bigint): string {
  const digits = micros.toString().padStart(19, '0')
  return `${digits.slice(0, -18)}.${digits.slice(-18)}`
}

export function rowOf(index: number): string {
  return `{"id":${FIRST_ID + BigInt(index)},"micros":"${decimal(microsOf(index))}","name":"name ü ${index}"}`
}

export function sumOf(count: number): string {
  let sum = 0n
  for (let index = 0; index < count; index += 1) sum += microsOf(index)
  return decimal(sum)
}

/** With the decimal as a number. */
export function plainOf(row: string): string {
  return row.replace(/"micros":"([^"]*)"/, '"micros":$1')
}

/** As avsc takes it. */
export function avroOf(row: string): object {
  const { id, micros, name } = partsOf(row)
  const digits = BigInt(micros.replace('.', '')).toString(16)
  const hex = `00${digits.length % 2 === 0 ? '' : '0'}${digits}`
  return { id: BigInt(id), micros: { bytes: Buffer.from(hex, 'hex') }, name }
}

/** Each row is one sample, by its labels. */
export function metricsOf(rows: readonly string[]): string {
  const samples = rows.map((row, index) => {
    const { id, micros, name } = partsOf(row)
    const at = BEGIN_SECONDS + Math.floor(index / SERIES) * STEP_SECONDS
    return `rows{id="${id}",micros="${micros}",name="${name}"} ${index} ${at}`
  })
  return `# TYPE rows gauge\n${samples.join('\n')}\n# EOF\n`
}

/** Option `lag`: the points of so many rows, and not one more. */
export function lagOf(rows: number): string {
  const points = Math.ceil(rows / SERIES)
  return `${Math.floor(Date.now() / 1000) - BEGIN_SECONDS - points * STEP_SECONDS}s`
}

function partsOf(row: string): { readonly id: string; readonly micros: string; readonly name: string } {
  const found = /"id":(?<id>\d+),"micros":"(?<micros>[\d.]+)","name":"(?<name>[^"]*)"/.exec(row)?.groups
  if (found === undefined) throw new Error(`no row: ${row}`)
  return found as { id: string; micros: string; name: string }
}
