/** Which column type holds every value of two types, exactly. Only within the integers and the decimals. */

interface IntegerType {
  readonly name: string
  readonly signed: boolean
  readonly bits: number
  /** Decimal digits of its largest value. */
  readonly digits: number
}

/** Narrowest first, signed before unsigned of the same width. */
const INTEGERS: readonly IntegerType[] = [
  { name: 'TINYINT', signed: true, bits: 8, digits: 3 },
  { name: 'UTINYINT', signed: false, bits: 8, digits: 3 },
  { name: 'SMALLINT', signed: true, bits: 16, digits: 5 },
  { name: 'USMALLINT', signed: false, bits: 16, digits: 5 },
  { name: 'INTEGER', signed: true, bits: 32, digits: 10 },
  { name: 'UINTEGER', signed: false, bits: 32, digits: 10 },
  { name: 'BIGINT', signed: true, bits: 64, digits: 19 },
  { name: 'UBIGINT', signed: false, bits: 64, digits: 20 },
  { name: 'HUGEINT', signed: true, bits: 128, digits: 39 },
  { name: 'UHUGEINT', signed: false, bits: 128, digits: 39 },
]

const MOST_DIGITS = 38

/** The type a column of type `have` needs to take values of type `come`: `have` itself where it holds them; undefined
 *  where no type holds both without loss. Types as the engine names them. */
export function widened(have: string, come: string): string | undefined {
  if (have === come) return have
  const [haveInteger, comeInteger] = [integer(have), integer(come)]
  const [haveDecimal, comeDecimal] = [decimal(have), decimal(come)]
  if (haveInteger !== undefined && comeInteger !== undefined)
    return INTEGERS.find((type) => holds(type, haveInteger) && holds(type, comeInteger))?.name
  if (haveDecimal !== undefined && comeDecimal !== undefined)
    return decimalName(Math.max(haveDecimal.whole, comeDecimal.whole), Math.max(haveDecimal.scale, comeDecimal.scale))
  if (haveDecimal !== undefined && comeInteger !== undefined)
    return decimalName(Math.max(haveDecimal.whole, comeInteger.digits), haveDecimal.scale)
  // What comes from the spool: Parquet has no 128-bit integers, so they travel as DECIMAL(38,0).
  if (haveInteger?.signed === true && comeDecimal?.scale === 0 && comeDecimal.whole < haveInteger.digits) return have
  return undefined
}

function holds(type: IntegerType, other: IntegerType): boolean {
  if (type.signed === other.signed) return type.bits >= other.bits
  return type.signed && type.bits > other.bits
}

function integer(type: string): IntegerType | undefined {
  return INTEGERS.find(({ name }) => name === type)
}

function decimal(type: string): { readonly whole: number; readonly scale: number } | undefined {
  const [, width, scale] = /^DECIMAL\((\d+),\s*(\d+)\)$/.exec(type) ?? []
  if (width === undefined || scale === undefined) return undefined
  return { whole: Number(width) - Number(scale), scale: Number(scale) }
}

function decimalName(whole: number, scale: number): string | undefined {
  return whole + scale > MOST_DIGITS ? undefined : `DECIMAL(${whole + scale},${scale})`
}
