/** Whether a column that is there takes what a batch has, without loss. ClickHouse would cut off and round in silence. */
import type { ClickHouseColumn } from './types.ts'

/** With nanoseconds there is room for fewer years: such a column is no wider one. */
const MOMENT = /^DateTime64\(([0-6])(.*)\)$/
const INTEGERS = /^(U?)Int(8|16|32|64|128|256)$/

/** true: a column of the type `have` holds every value of `column` exactly. NULL in a column without Nullable is refused by the server. */
export function takes(have: string, column: ClickHouseColumn): boolean {
  const held = bare(have, column.zoned)
  const come = bare(column.type, column.zoned)
  return held === come || isWider(held, come)
}

/** The type to which a column is widened so that it takes both; undefined where none does. */
export function wider(have: string, column: ClickHouseColumn): string | undefined {
  const come = bare(column.type, false)
  if (!isWider(come, bare(have, false))) return undefined
  return have.includes('Nullable(') ? `Nullable(${come})` : come
}

/** Without what says nothing of the values: Nullable, LowCardinality, spaces, quotes of plain names, a zone that is only shown. */
function bare(type: string, zoned: boolean): string {
  let text = type.replaceAll(/\s*\n\s*/g, '').replaceAll(/`([A-Za-z_]\w*)`/g, '$1')
  for (let before = ''; before !== text; ) {
    before = text
    text = text.replace(/\b(?:Nullable|LowCardinality)\(((?:[^()]|\([^()]*\))*)\)/, '$1')
  }
  if (zoned) text = text.replace(/^DateTime64\((\d)(?:, *'[^']*')?\)$/, 'DateTime64($1)')
  return text.replaceAll(/, +/g, ',')
}

function isWider(have: string, come: string): boolean {
  if (have === 'Float64' && come === 'Float32') return true
  const [fraction, other] = [MOMENT.exec(have), MOMENT.exec(come)]
  if (fraction !== null && other !== null) return fraction[2] === other[2] && Number(fraction[1]) >= Number(other[1])
  const [room, need] = [digits(have), digits(come)]
  if (room !== undefined && need !== undefined) return room.whole >= need.whole && room.scale >= need.scale
  const [a, b] = [INTEGERS.exec(have), INTEGERS.exec(come)]
  if (a === null || b === null) return false
  const bits = Number(a[2]) - Number(b[2])
  return a[1] === b[1] ? bits > 0 : a[1] === '' && bits > 0
}

function digits(type: string): { readonly whole: number; readonly scale: number } | undefined {
  const [, precision, scale] = /^Decimal\((\d+),(\d+)\)$/.exec(type) ?? []
  return precision === undefined ? undefined : { whole: Number(precision) - Number(scale), scale: Number(scale) }
}
