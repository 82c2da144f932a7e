/**
 * HMAC-SHA256 (RFC 2104) in SQL. The engine has sha256 but no hmac: the key is padded here and reaches the SQL as two blobs
 * through session variables, so that no statement, plan or error message ever shows it.
 */
import { createHash } from 'node:crypto'

/** Block size of SHA-256 in bytes. */
const BLOCK = 64

/** The key, hashed where it is longer than a block, filled with zeros and xored with the two paddings of RFC 2104. */
export function hmacPads(key: Uint8Array): { readonly inner: Uint8Array; readonly outer: Uint8Array } {
  const short = key.length > BLOCK ? createHash('sha256').update(key).digest() : key
  const padded = new Uint8Array(BLOCK)
  padded.set(short)
  return { inner: padded.map((byte) => byte ^ 0x36), outer: padded.map((byte) => byte ^ 0x5c) }
}

/** SQL of the digest as 64 hex digits; NULL stays NULL. All three are SQL of BLOBs. */
export function hmacSql(inner: string, outer: string, value: string): string {
  return `sha256(${outer} || unhex(sha256(${inner} || ${value})))`
}
