/** From two sides to the ids of the rows in which they may differ: buckets, parts of buckets, entries. Both sides count and digest
 *  themselves; only what differs is asked further. */
import type { ComparedSide, CompareScope } from '../core/comparison.ts'
import type { Session } from '../engine/session.ts'

/** Table of the ids. */
export const SUSPECTS = 'reconcile_suspects'
const LEFT = 'reconcile_left'
const RIGHT = 'reconcile_right'
const WITHIN = 'reconcile_within'

/** Fewer entries than this are asked for at once, without cutting their buckets into parts first. */
const ENTRIES_AT_ONCE = 50_000
const ROWS_PER_PART = 2_000
const MOST_PARTS = 4_096
/** More than these make a condition that costs more than it saves. */
const MOST_NAMED_BUCKETS = 256

export interface Sides {
  readonly left: ComparedSide
  readonly right: ComparedSide
  readonly leftScope: CompareScope
  readonly rightScope: CompareScope
  /** What makes a bucket differ. */
  readonly compare: readonly ('count' | 'digest')[]
}

export interface BucketDifference {
  /** Microseconds since the epoch, or the number of the bucket. */
  readonly bucket: bigint
  readonly rows: readonly [left: bigint, right: bigint]
  /** By column, left and right. */
  readonly sums: Readonly<Record<string, readonly [left: string, right: string]>>
}

export interface Compared {
  readonly buckets: number
  readonly rows: readonly [left: bigint, right: bigint]
  readonly differing: readonly BucketDifference[]
}

/** Counts and digests of all buckets. Leaves those that differ in the table that suspects() goes on with. */
export async function compareBuckets(session: Session, sides: Sides): Promise<Compared> {
  const { left, right, leftScope, rightScope, compare } = sides
  await table(session, LEFT, await left.buckets(leftScope))
  await table(session, RIGHT, await right.buckets(rightScope))
  const { sums } = leftScope
  const differs = [
    'coalesce(l.rows, 0) <> coalesce(r.rows, 0)',
    ...(compare.includes('digest') ? ['l.digest IS DISTINCT FROM r.digest'] : []),
    ...sums.map((_, index) => `l.sum_${index} IS DISTINCT FROM r.sum_${index}`),
  ].join(' OR ')
  const pairs = sums.map((_, index) => `, l.sum_${index}::VARCHAR AS l${index}, r.sum_${index}::VARCHAR AS r${index}`)
  await table(
    session,
    WITHIN,
    `SELECT coalesce(l.bucket, r.bucket) AS bucket, coalesce(l.rows, 0) AS l, coalesce(r.rows, 0) AS r${pairs.join('')} FROM ${LEFT} l FULL JOIN ${RIGHT} r ON l.bucket = r.bucket WHERE ${differs}`,
  )
  const [total] = await session.rows(
    `SELECT (SELECT coalesce(sum(rows), 0)::HUGEINT FROM ${LEFT}) AS l, (SELECT coalesce(sum(rows), 0)::HUGEINT FROM ${RIGHT}) AS r, (SELECT count(*) FROM (SELECT bucket FROM ${LEFT} UNION SELECT bucket FROM ${RIGHT})) AS n`,
  )
  const differing = await session.rows(`SELECT * FROM ${WITHIN} ORDER BY bucket`)
  return {
    buckets: Number(total?.['n'] ?? 0),
    rows: [big(total?.['l']), big(total?.['r'])],
    differing: differing.map((row) => ({
      bucket: big(row['bucket']),
      rows: [big(row['l']), big(row['r'])],
      sums: Object.fromEntries(
        sums.map((name, index) => [name, [String(row[`l${index}`] ?? ''), String(row[`r${index}`] ?? '')]]),
      ),
    })),
  }
}

/** The sides, asked for what differs only. */
export function narrowed(sides: Sides, { differing }: Compared): Sides {
  if (differing.length > MOST_NAMED_BUCKETS) return sides
  const buckets = differing.map(({ bucket }) => bucket)
  return { ...sides, leftScope: { ...sides.leftScope, buckets }, rightScope: { ...sides.rightScope, buckets } }
}

/** After compareBuckets(): fills SUSPECTS. Returns how many ids are in it. */
export async function suspects(session: Session, sides: Sides): Promise<number> {
  const { left, right, leftScope, rightScope } = sides
  const [most] = await session.rows(
    `SELECT coalesce(sum(greatest(l, r)), 0)::BIGINT AS total, coalesce(max(greatest(l, r)), 0)::BIGINT AS largest FROM ${WITHIN}`,
  )
  const parts =
    Number(most?.['total']) <= ENTRIES_AT_ONCE
      ? 1
      : Math.min(MOST_PARTS, Math.ceil(Number(most?.['largest']) / ROWS_PER_PART))
  if (parts > 1) {
    await table(session, LEFT, await left.parts(leftScope, WITHIN, parts))
    await table(session, RIGHT, await right.parts(rightScope, WITHIN, parts))
    await table(
      session,
      WITHIN,
      `SELECT coalesce(l.bucket, r.bucket) AS bucket, coalesce(l.part, r.part) AS part FROM ${LEFT} l FULL JOIN ${RIGHT} r ON l.bucket = r.bucket AND l.part = r.part WHERE l.rows IS DISTINCT FROM r.rows OR l.digest IS DISTINCT FROM r.digest`,
    )
  } else await table(session, WITHIN, `SELECT bucket, 0::BIGINT AS part FROM ${WITHIN}`)
  await table(session, LEFT, await left.entries(leftScope, WITHIN, parts))
  await table(session, RIGHT, await right.entries(rightScope, WITHIN, parts))
  const counted = (name: string) => `(SELECT id, content, count(*) AS n FROM ${name} GROUP BY ALL)`
  await table(
    session,
    SUSPECTS,
    `SELECT DISTINCT coalesce(l.id, r.id) AS id FROM ${counted(LEFT)} l FULL JOIN ${counted(RIGHT)} r ON l.id = r.id AND l.content = r.content WHERE l.n IS DISTINCT FROM r.n`,
  )
  return Number(await session.value(`SELECT count(*) FROM ${SUSPECTS}`))
}

export async function table(session: Session, name: string, select: string): Promise<void> {
  await session.run(`CREATE OR REPLACE TEMP TABLE ${name} AS ${select}`)
}

function big(value: unknown): bigint {
  return BigInt(String(value ?? 0))
}
