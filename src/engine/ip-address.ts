/** Network part of IP addresses as SQL: the engine's `inet` extension is not there. */
import { literal } from './sql-text.ts'

/** Leading zeros are refused: programs disagree whether `010` is 8 or 10. */
const OCTET = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
const V4 = `(${OCTET}[.]){3}${OCTET}`

/**
 * SQL of the address with its host part zeroed: IPv4 /24, IPv6 /48, in the form of RFC 5952. `text` is SQL of a VARCHAR.
 * Zone ids are dropped; IPv4 in IPv6 (`::ffff:…`) is IPv4. NULL for what is no address.
 */
export function truncatedAddressSql(text: string): string {
  const zoneless = `lower(regexp_replace(trim(${text}), '%[^%]+$', ''))`
  return `CASE WHEN regexp_full_match(trim(${text}), ${literal(V4)}) THEN regexp_replace(trim(${text}), '[0-9]+$', '0') ELSE ${letSql(zoneless, '__a', truncatedV6('__a'))} END`
}

/** `value` under a name inside `body`, evaluated once. */
function letSql(value: string, name: string, body: string): string {
  return `list_transform([${value}], lambda ${name}: ${body})[1]`
}

function truncatedV6(address: string): string {
  const octets = `list_transform(string_split(regexp_extract(${address}, '[^:]+$'), '.'), lambda __o: TRY_CAST(__o AS INTEGER))`
  const hex = letSql(octets, '__q', `format('{:x}:{:x}', __q[1] * 256 + __q[2], __q[3] * 256 + __q[4])`)
  const colons = `CASE WHEN regexp_matches(${address}, ${literal(`:${V4}$`)}) THEN regexp_replace(${address}, '[^:]+$', '') || ${hex} ELSE ${address} END`
  return letSql(`string_split(${colons}, '::')`, '__h', networkOfHalves('__h'))
}

/** `halves`: the address split at `::`, which stands for as many zero groups as are missing. */
function networkOfHalves(halves: string): string {
  const groups = (half: string) =>
    `CASE WHEN coalesce(${half}, '') = '' THEN []::VARCHAR[] ELSE string_split(${half}, ':') END`
  const parts = `{'l': ${groups(`${halves}[1]`)}, 'r': ${groups(`${halves}[2]`)}}`
  const missing = `8 - len(__p.l) - len(__p.r)`
  const valid = `(len(${halves}) = 1 AND ${missing} = 0 OR len(${halves}) = 2 AND ${missing} > 0) AND len(list_filter(list_concat(__p.l, __p.r), lambda __g: NOT regexp_full_match(__g, '[0-9a-f]{1,4}'))) = 0`
  const zeros = `list_resize([]::VARCHAR[], greatest(${missing}, 0)::BIGINT, '0')`
  const full = `list_transform(list_concat(__p.l, ${zeros}, __p.r), lambda __g: coalesce(nullif(ltrim(__g, '0'), ''), '0'))`
  return letSql(parts, '__p', `CASE WHEN ${valid} THEN ${letSql(full, '__f', networkOfGroups('__f'))} END`)
}

/** `groups`: the eight groups without leading zeros. */
function networkOfGroups(groups: string): string {
  const number = (group: number) => `('0x' || ${groups}[${group}])::INTEGER`
  const v4 = `format('{}.{}.{}.0', ${number(7)} // 256, ${number(7)} % 256, ${number(8)} // 256)`
  const prefix = `regexp_replace(array_to_string(${groups}[1:3], ':'), '(^|:)0(:0)*$', '')`
  return `CASE WHEN ${groups}[1:6] = ['0', '0', '0', '0', '0', 'ffff'] THEN ${v4} ELSE ${prefix} || '::' END`
}
