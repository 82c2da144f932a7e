import { randomInt } from 'node:crypto'
import { BlockList, isIPv4, isIPv6 } from 'node:net'
import { tmpdir } from 'node:os'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { truncatedAddressSql } from '../../src/engine/ip-address.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import { list } from '../../src/engine/sql-text.ts'

let engine: Engine
let session: Session
beforeAll(async () => {
  engine = await Engine.open({ memoryBytes: 200_000_000, threads: 1, tempFolder: tmpdir() })
  session = await engine.connect()
})
afterAll(() => {
  session.close()
  engine.close()
})

async function truncated(texts: readonly string[]): Promise<unknown[]> {
  const rows = await session.rows(`SELECT ${truncatedAddressSql('x')} AS r FROM (SELECT unnest(${list(texts)}) AS x)`)
  return rows.map(({ r }) => r)
}

test.each([
  ['203.0.113.77', '203.0.113.0'],
  [' 10.0.0.255 ', '10.0.0.0'],
  ['::', '::'],
  ['::1', '::'],
  ['2001:db8:1:2:3:4:5:6', '2001:db8:1::'],
  ['2001:0DB8:00a0::1', '2001:db8:a0::'],
  ['2001:db8::1', '2001:db8::'],
  ['2001::5:6:7:8', '2001::'],
  ['10::', '10::'],
  ['0:5::1', '0:5::'],
  ['::2:3:4:5:6:7:8', '0:2:3::'],
  ['1:2:3:4:5:6:7::', '1:2:3::'],
  ['fe80::1%eth0', 'fe80::'],
  ['64:ff9b::192.0.2.33', '64:ff9b::'],
  ['1:2:3:4:5:6:192.0.2.33', '1:2:3::'],
  ['::ffff:203.0.113.77', '203.0.113.0'],
  ['::FFFF:cb00:714d', '203.0.113.0'],
])('%s is in %s', async (text, network) => {
  expect(await truncated([text])).toEqual([network])
})

test.each([
  ['', 'x', '1.2.3', '1.2.3.4.5', '256.1.1.1', '1.2.3.04', '1.2.3.4/24', '1.2.3.4:80', '1.2.3.4\n5.6.7.8'],
  [':::', '1::2::3', '1:2:3:4:5:6:7', '1:2:3:4:5:6:7:8:9', '1:2:3:4:5:6:7:8::', '::1:2:3:4:5:6:7:8', ':1::', '1::2:'],
  ['12345::', 'g::', '[::1]', '::1/64', '::1.2.3.256', '1.2.3.4::', '::1%', '%eth0', '1:2:3:4:5:6:7:1.2.3.4'],
])('no addresses: %s …', async (...texts) => {
  expect(await truncated(texts)).toEqual(texts.map(() => null))
})

const seed = randomInt(2 ** 31)

test(`every random address lies in its network, every other text has none (seed ${seed})`, async () => {
  const random = generator(seed)
  const texts = Array.from({ length: 2000 }, () => randomText(random))
  const networks = await truncated(texts)
  for (const [index, text] of texts.entries()) {
    const network = networks[index]
    const known = isIPv4(text) || isIPv6(text)
    expect([text, network === null]).toEqual([text, !known])
    if (network !== null) expect([text, network, contains(String(network), text)]).toEqual([text, network, true])
  }
})

function contains(network: string, address: string): boolean {
  const list = new BlockList()
  const v4 = isIPv4(network)
  list.addSubnet(network, v4 ? 24 : 48, v4 ? 'ipv4' : 'ipv6')
  return list.check(address, isIPv4(address) ? 'ipv4' : 'ipv6')
}

function randomText(random: (below: number) => number): string {
  if (random(4) === 0) return Array.from({ length: 3 + random(3) }, () => random(300)).join('.')
  const groups = Array.from({ length: 1 + random(9) }, () => (random(3) === 0 ? '0' : random(65_536).toString(16)))
  if (random(6) === 0) groups.push('192.0.2.7')
  if (random(4) > 0) groups[random(groups.length)] = ''
  return `${random(6) === 0 ? ':' : ''}${groups.join(':')}${random(6) === 0 ? ':' : ''}`
}

/** mulberry32. */
function generator(start: number): (below: number) => number {
  let state = start
  return (below) => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) % below
  }
}
