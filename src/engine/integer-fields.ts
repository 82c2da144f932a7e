/** Fields of JSON that the engine may read as integers, where their values are known to be integers in plain digits: see Chunk.integers. */
import { pathOf } from './field-path.ts'

/** The engine's names of signed integers that 19 digits can fill. */
const INTEGER =
  /^\s*(?:tinyint|int1|smallint|int2|int16|short|integer|int|int4|int32|signed|bigint|int8|int64|long)\s*$/i

interface Column {
  readonly name: string
  readonly from: string
  readonly type: string
  readonly format?: string | undefined
}

/** Keys of a record that one column reads, as such an integer. */
export function integerFields(columns: readonly Column[]): string[] {
  const readers = new Map<string, number>()
  for (const column of columns) {
    const [root = ''] = pathOf(column)
    readers.set(root, (readers.get(root) ?? 0) + 1)
  }
  return columns
    .filter((column) => INTEGER.test(column.type) && column.format === undefined && pathOf(column).length === 1)
    .map((column) => pathOf(column)[0] ?? '')
    .filter((root) => readers.get(root) === 1)
}
