/** Whether the key that a server shows is the one that is known of it: known_hosts(5) of OpenSSH, or a fingerprint. */
import { createHash, createHmac } from 'node:crypto'

export interface KnownKey {
  /** `ssh-ed25519`, `ecdsa-sha2-nistp256`, `ssh-rsa` … */
  readonly type: string
  readonly key: Buffer
  readonly revoked: boolean
}

/** `known`: as it should be; the others say why not. */
export type Verdict = 'known' | 'changed' | 'revoked' | 'unknown'

/** Keys of the host in the text of a known_hosts file. Lines of certificate authorities are passed over. */
export function keysOfHost(text: string, host: string, port: number): readonly KnownKey[] {
  const name = port === 22 ? host.toLowerCase() : `[${host.toLowerCase()}]:${port}`
  return text.split('\n').flatMap((line) => {
    const fields = line.trim().split(/\s+/)
    const marker = fields[0]?.startsWith('@') === true ? fields.shift() : undefined
    const [hosts = '', type, key] = fields
    if (hosts.startsWith('#') || type === undefined || key === undefined) return []
    if (marker === '@cert-authority' || !isNamed(hosts, name)) return []
    return [{ type, key: Buffer.from(key, 'base64'), revoked: marker === '@revoked' }]
  })
}

export function verdictOf(known: readonly KnownKey[], shown: Buffer): Verdict {
  const same = known.filter(({ key }) => key.equals(shown))
  if (same.some(({ revoked }) => revoked)) return 'revoked'
  if (same.length > 0) return 'known'
  return known.some(({ revoked }) => !revoked) ? 'changed' : 'unknown'
}

/** As `ssh-keygen -lf` prints it. */
export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`
}

/** Algorithms by which the server can show a key that is known; what it has beside is of no use. */
export function algorithmsOf(known: readonly KnownKey[]): readonly string[] {
  const types = new Set(known.filter(({ revoked }) => !revoked).map(({ type }) => type))
  return [...types].flatMap((type) => (type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : [type]))
}

/** Comma-separated patterns, of which one that is negated wins; or one name that is hashed. */
function isNamed(hosts: string, name: string): boolean {
  const [, , salt, digest] = hosts.split('|')
  if (hosts.startsWith('|1|') && salt !== undefined && digest !== undefined)
    return createHmac('sha1', Buffer.from(salt, 'base64')).update(name).digest('base64') === digest
  const patterns = hosts.toLowerCase().split(',')
  if (patterns.some((pattern) => pattern.startsWith('!') && fits(pattern.slice(1), name))) return false
  return patterns.some((pattern) => fits(pattern, name))
}

function fits(pattern: string, name: string): boolean {
  const parts = pattern
    .replaceAll(/[\\^$.+()[\]{}|]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.')
  return new RegExp(`^${parts}$`).test(name)
}
