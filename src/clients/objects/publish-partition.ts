/** Hive-style folder names, one per combination of partition values. Two combinations never share a name. */
import { AdflowError } from '../../core/errors.ts'

/** What Hive, Spark and DuckDB take for NULL. */
const NULL_FOLDER = '__HIVE_DEFAULT_PARTITION__'
/** Longest name that every common file system takes. */
const MAX_NAME_BYTES = 255
// Control characters and those that mean something in a path, a glob or the name itself: the list of Hive.
const UNSAFE = /[\p{Cc}"#%'*/:<>=?\\{}[\]^|]/gu

/** `dt=2026-01-01/country=CN`. */
export function partitionFolder(keys: readonly string[], values: readonly (string | null)[]): string {
  return keys.map((key, index) => folderName(key, values[index] ?? null)).join('/')
}

function folderName(key: string, value: string | null): string {
  const name = `${encodeName(key)}=${value === null ? NULL_FOLDER : encodeValue(value)}`
  if (Buffer.byteLength(name) <= MAX_NAME_BYTES) return name
  throw new AdflowError(
    'STORE_MISMATCH',
    `the partition ${key} has a value of ${Buffer.byteLength(name)} bytes: a folder name holds ${MAX_NAME_BYTES}`,
    { hint: 'partition by a shorter expression, for example left(…, 40) or md5(…)' },
  )
}

function encodeValue(value: string): string {
  const encoded = encodeName(value)
  if (encoded === NULL_FOLDER) return `%5F${encoded.slice(1)}`
  // `.` and `..`, and endings that some systems drop.
  return encoded.replace(/^\.+$|[. ]$/u, (dots) => [...dots].map(percent).join(''))
}

function encodeName(text: string): string {
  return text.replace(UNSAFE, percent)
}

/** Each byte of the character in UTF-8. */
function percent(character: string): string {
  return [...Buffer.from(character)].map((byte) => `%${byte.toString(16).toUpperCase().padStart(2, '0')}`).join('')
}
