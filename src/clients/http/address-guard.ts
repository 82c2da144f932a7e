/**
 * Which addresses may be reached: those of the public internet. A name is resolved here, inside the lookup of the socket
 * itself, and every address that it has must be public: what is checked is what is connected to, so a name that answers
 * differently the second time gains nothing.
 */
import { type LookupAddress, type LookupOptions, lookup } from 'node:dns'
import { BlockList, isIP } from 'node:net'

const PRIVATE_V4 = [
  ['0.0.0.0', 8], // this host
  ['10.0.0.0', 8],
  ['100.64.0.0', 10], // carrier-grade NAT; metadata services of some clouds
  ['127.0.0.0', 8],
  ['169.254.0.0', 16], // link-local; metadata services
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
] as const

/** Parts of 2000::/3, the only public block, that are not. */
const PRIVATE_V6 = [
  ['2001::', 23], // protocol assignments, Teredo among them
  ['2001:db8::', 32],
  ['3fff::', 20],
] as const

const v4 = new BlockList()
for (const [net, prefix] of PRIVATE_V4) v4.addSubnet(net, prefix, 'ipv4')
const v6 = new BlockList()
for (const [net, prefix] of PRIVATE_V6) v6.addSubnet(net, prefix, 'ipv6')
const publicV6 = new BlockList()
publicV6.addSubnet('2000::', 3, 'ipv6')

/** An address is refused; the name that led to it is in the message. */
class PrivateAddressError extends Error {
  override readonly name = 'PrivateAddressError'
  readonly code = 'ADFLOW_PRIVATE_ADDRESS'
}

/** false also for what is no address. An address that carries an IPv4 address (mapped, NAT64, 6to4) is judged by it. */
export function isPublicAddress(address: string): boolean {
  const plain = address.split('%', 1)[0] ?? ''
  if (isIP(plain) === 4) return !v4.check(plain, 'ipv4')
  if (isIP(plain) !== 6) return false
  const groups = groupsOf(plain)
  const inner = carriedV4(groups)
  if (inner !== undefined) return !v4.check(inner, 'ipv4')
  return publicV6.check(plain, 'ipv6') && !v6.check(plain, 'ipv6')
}

/** The eight groups as numbers. */
function groupsOf(address: string): number[] {
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(address)
  const [, head = '', a, b, c, d] = dotted ?? []
  const hex = (high?: string, low?: string) => (Number(high) * 256 + Number(low)).toString(16)
  const text = dotted === null ? address : `${head}${hex(a, b)}:${hex(c, d)}`
  const [left = '', right] = text.split('::')
  const parts = (side: string) => (side === '' ? [] : side.split(':').map((group) => Number.parseInt(group, 16)))
  const before = parts(left)
  const after = parts(right ?? '')
  const zeros = right === undefined ? 0 : 8 - before.length - after.length
  return [...before, ...new Array<number>(Math.max(0, zeros)).fill(0), ...after]
}

function carriedV4(groups: readonly number[]): string | undefined {
  const from = (at: number) => {
    const [high = 0, low = 0] = groups.slice(at, at + 2)
    return [high >> 8, high & 255, low >> 8, low & 255].join('.')
  }
  const zeros = (to: number) => groups.slice(0, to).every((group) => group === 0)
  if (zeros(5) && groups[5] === 0xffff) return from(6) // ::ffff:0:0/96, mapped
  if (zeros(4) && groups[4] === 0xffff && groups[5] === 0) return from(6) // ::ffff:0:0:0/96, translated
  if (groups[0] === 0x64 && groups[1] === 0xff9b && groups.slice(2, 6).every((group) => group === 0)) return from(6) // NAT64
  return groups[0] === 0x2002 ? from(1) : undefined // 6to4
}

/** @throws PrivateAddressError where the host of a URL is a private address itself: no lookup would be asked. */
export function refusePrivateHost(hostname: string): void {
  const host = hostname.replace(/^\[|\]$/g, '')
  if (isIP(host) !== 0 && !isPublicAddress(host)) throw refusal(hostname, host)
}

type Callback = (error: Error | null, address: string | LookupAddress[], family?: number) => void

/** For `lookup` of a socket. */
export function guardedLookup(hostname: string, options: LookupOptions, callback: Callback): void {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return callback(error, [])
    const refused = addresses.find(({ address }) => !isPublicAddress(address))
    if (refused !== undefined) return callback(refusal(hostname, refused.address), [])
    if (options.all === true) return callback(null, addresses)
    const [first] = addresses
    return callback(null, first?.address ?? '', first?.family)
  })
}

function refusal(hostname: string, address: string): PrivateAddressError {
  const led = hostname === address ? address : `${hostname} leads to ${address}, which`
  return new PrivateAddressError(
    `${led} is not a public address: \`allow_private: true\` allows addresses of this machine and its networks`,
  )
}
