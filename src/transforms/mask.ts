import { z } from 'zod'
import type { Column, Relation } from '../core/contracts.ts'
import { defineStep } from '../core/define.ts'
import type { StepEnv } from '../core/step-contract.ts'
import { truncatedAddressSql } from '../engine/ip-address.ts'
import { hmacPads, hmacSql } from '../engine/keyed-hash.ts'
import { project } from '../engine/relation.ts'
import { ident } from '../engine/sql-text.ts'
import { invalidStep, requireColumn } from '../engine/step-columns.ts'

const UNITS = ['second', 'minute', 'hour', 'day', 'week', 'month', 'quarter', 'year'] as const
const REDACTED = "'[redacted]'"
const HEX_DIGITS = 64
/** Shorter keys are guessed by trying: user ids and addresses are few. */
const MIN_KEY_BYTES = 16

const method = z
  .union([
    z.enum(['hmac', 'truncate', 'redact', 'null']),
    z.null(),
    z.strictObject({
      hmac: z
        .strictObject({
          length: z.int().min(8).max(HEX_DIGITS).describe('Hex digits to keep, from the left; fewer collide sooner.'),
        })
        .describe('Keyed hash, shortened.'),
    }),
    z.strictObject({
      truncate: z
        .union([z.int().min(0), z.enum(UNITS)])
        .describe('Characters of a text to keep, or the unit to which a timestamp is cut.'),
    }),
  ])
  .describe(
    '`hmac`: HMAC-SHA256 with `key`, as hex; equal values stay equal. `truncate`: network of an IP address (IPv4 /24, IPv6 /48; NULL where it is none). `truncate: n`: first n characters. `truncate: hour` …: timestamp cut to the unit. `redact`: a fixed text. `null`: no value.',
  )

type Method = z.infer<typeof method>

export default defineStep({
  summary: 'Hides personal data: keyed hash, truncation, redaction.',
  description:
    'NULL stays NULL under every method. Values that are no text are hashed in their text form, BLOBs as their bytes. One key gives one hash for one value in every column and job, so that tables can still be joined; another key makes them strangers.',
  options: z
    .object({
      key: z
        .string()
        .refine((key) => Buffer.byteLength(key) >= MIN_KEY_BYTES, `a key needs at least ${MIN_KEY_BYTES} bytes`)
        .optional()
        .describe(
          'Secret key of `hmac`, such as `${file:/run/secrets/mask}`; at least 16 bytes. No column can be named so.',
        ),
    })
    .catchall(method)
    .refine(({ key: _, ...columns }) => Object.keys(columns).length > 0, 'name at least one column')
    .describe('Column → how it is masked; `key` is the secret key.'),
  example: { user_id: 'hmac', ip: 'truncate', email: 'redact', key: 'an example key, not a secret' },
  sample: {
    columns: { user_id: 'VARCHAR', ip: 'VARCHAR', email: 'VARCHAR', clicks: 'INTEGER' },
    rows: [
      { user_id: 'u1', ip: '203.0.113.77', email: 'a@example.com', clicks: 1 },
      { user_id: null, ip: '2001:db8:7::1', email: null, clicks: 2 },
    ],
    expect: [
      {
        user_id: '009de47e48feafc93678f7d725ff3df43c35675ee3319659f3325fda04a9082f',
        ip: '203.0.113.0',
        email: '[redacted]',
        clicks: 1,
      },
      { user_id: null, ip: '2001:db8:7::', email: null, clicks: 2 },
    ],
  },
  async compile(options, input: Relation, env: StepEnv) {
    const { key, ...methods } = options
    const hash = hashOf(key, env)
    const masked = new Map<string, { type: string; sql: string }>()
    for (const [name, how] of Object.entries(methods)) {
      const path = [...env.path, name]
      const column = requireColumn(input, name, path)
      if (masked.has(column.name)) throw invalidStep(`column ${column.name} is masked twice`, path)
      masked.set(column.name, await maskedColumn(column, how as Method, { path, input, env, hash }))
    }
    const items = input.columns.map((column) => {
      const mask = masked.get(column.name)
      return mask === undefined
        ? { column, sql: ident(column.name) }
        : { column: { ...column, type: mask.type, how: 'computed' as const }, sql: mask.sql }
    })
    return { output: project(input, items), kind: 'row', expressions: [], hides: [...masked.keys()] }
  },
})

/** SQL of the keyed hash of a value; asks for the key only when it is used. */
type Hash = (value: string, path: StepEnv['path']) => string

function hashOf(key: string | undefined, env: StepEnv): Hash {
  let pads: { inner: string; outer: string } | undefined
  return (value, path) => {
    if (key === undefined)
      throw invalidStep('hmac needs a key', path, [
        'add `key: ${ADFLOW_MASK_KEY:?set it}` or `key: ${file:…}` to the step',
      ])
    if (pads === undefined) {
      const { inner, outer } = hmacPads(Buffer.from(key))
      pads = { inner: env.secret('mask_inner', inner), outer: env.secret('mask_outer', outer) }
    }
    return hmacSql(pads.inner, pads.outer, value)
  }
}

interface Place {
  readonly path: StepEnv['path']
  readonly input: Relation
  readonly env: StepEnv
  readonly hash: Hash
}

async function maskedColumn(column: Column, how: Method, place: Place): Promise<{ type: string; sql: string }> {
  const name = ident(column.name)
  if (how === null || how === 'null') return { type: column.type, sql: `NULL::${column.type}` }
  if (how === 'redact') return { type: 'VARCHAR', sql: `CASE WHEN ${name} IS NOT NULL THEN ${REDACTED} END` }
  if (how === 'truncate') {
    if (column.type === 'VARCHAR') return { type: 'VARCHAR', sql: truncatedAddressSql(name) }
    throw invalidStep(
      `truncate alone cuts IP addresses, which are text; ${column.name} is ${column.type}`,
      place.path,
      ['for timestamps name the unit: `{ truncate: hour }`'],
    )
  }
  if (how === 'hmac' || 'hmac' in how) {
    const bytes = column.type === 'BLOB' ? name : `encode(${name}::VARCHAR)`
    const digest = place.hash(bytes, place.path)
    return { type: 'VARCHAR', sql: how === 'hmac' ? digest : `left(${digest}, ${how.hmac.length})` }
  }
  if (typeof how.truncate === 'string') return cutTime(column, `date_trunc('${how.truncate}', ${name})`, place)
  if (column.type === 'VARCHAR') return { type: 'VARCHAR', sql: `left(${name}, ${how.truncate})` }
  throw invalidStep(`truncate: ${how.truncate} cuts text; ${column.name} is ${column.type}`, place.path)
}

async function cutTime(
  column: Column,
  sql: string,
  { path, input, env }: Place,
): Promise<{ type: string; sql: string }> {
  if (!/^(TIMESTAMP|DATE)/.test(column.type))
    throw invalidStep(`a unit of time cuts timestamps and dates; ${column.name} is ${column.type}`, path)
  return { type: (await env.analysis.row({ sql, path }, input)).type, sql }
}
