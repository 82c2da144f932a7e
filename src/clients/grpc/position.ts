/** The field of the records by which a source is read on. */
import { comparable, compareSince, type SinceKind } from '../staging/since.ts'

export interface PositionField {
  readonly path: readonly string[]
  readonly kind: SinceKind
  /** What the first run asks for. */
  readonly start: string | undefined
}

/** As text; undefined where the record has none that can be compared. */
export function positionOf(record: object, { path, kind }: PositionField): string | undefined {
  const value = valueAt(record, path)
  return value === undefined || value === null ? undefined : comparable(JSON.stringify(value), kind)
}

export function higher(a: string | undefined, b: string | undefined, kind: SinceKind): string | undefined {
  if (a === undefined || b === undefined) return a ?? b
  return compareSince(a, b, kind) < 0 ? b : a
}

export function valueAt(value: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (at, key) => (typeof at === 'object' && at !== null ? (at as Readonly<Record<string, unknown>>)[key] : undefined),
    value,
  )
}
