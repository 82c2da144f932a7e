/** Nested values that a store keeps as JSON, for an engine that compares them. */
import { literal } from '../../src/engine/sql-text.ts'

/** SQL: the value of a column with the type, where lists and structs stand as JSON text. */
export function fromJson(column: string, type: string): string {
  if (!/^STRUCT|\]$/.test(type)) return `CAST(${column} AS ${type})`
  // Numbers with a fraction as text: this reader would make doubles of them.
  const exact = type.replaceAll(/DECIMAL\(\d+,\d+\)/g, 'VARCHAR')
  const quoted = `regexp_replace(${column}, '": ?(-?[0-9]+[.][0-9]+)', '": "\\1"', 'g')`
  return `from_json(${quoted}, ${literal(structureOf(exact))})::${type}`
}

/** As from_json wants it: `["BIGINT"]`, `{"os": "VARCHAR"}`. */
function structureOf(type: string): string {
  if (type.endsWith('[]')) return `[${structureOf(type.slice(0, -2))}]`
  const fields = /^STRUCT\((.*)\)$/.exec(type)?.[1]
  if (fields === undefined) return JSON.stringify(type)
  const parts = fields.split(/, (?![^(]*\))/).map((field) => {
    const [name = '', own = ''] = field.split(/ (.*)/s)
    return `${JSON.stringify(name.replaceAll('"', ''))}: ${structureOf(own)}`
  })
  return `{${parts.join(', ')}}`
}
