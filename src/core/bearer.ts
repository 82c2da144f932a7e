/** Bearer tokens of our own servers, and the addresses at which none is needed. */
import { createHash, timingSafeEqual } from 'node:crypto'
import { isIP } from 'node:net'

export function digestOf(token: string): Buffer {
  return createHash('sha256').update(token).digest()
}

/** In a time that does not depend on where the two differ. */
export function sameToken(digest: Buffer, given: string): boolean {
  return timingSafeEqual(digest, digestOf(given))
}

/** Of the header `Authorization`; undefined: it has none. */
export function bearerOf(header: string | undefined): string | undefined {
  const [scheme, given] = (header ?? '').split(' ')
  return scheme?.toLowerCase() === 'bearer' && given !== undefined && given !== '' ? given : undefined
}

/** A name that only begins like one is none. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}
