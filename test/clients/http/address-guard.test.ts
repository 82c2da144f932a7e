import { describe, expect, it } from 'vitest'
import { guardedLookup, isPublicAddress, refusePrivateHost } from '../../../src/clients/http/address-guard.ts'

describe('an address', () => {
  it.each([
    '127.0.0.1',
    '127.255.255.254',
    '0.0.0.0',
    '10.1.2.3',
    '100.100.100.200',
    '169.254.169.254',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.1.1',
    '198.18.0.1',
    '224.0.0.1',
    '255.255.255.255',
    '::',
    '::1',
    '::ffff:127.0.0.1',
    '::ffff:7f00:1',
    '::ffff:a9fe:a9fe',
    '::ffff:0:10.0.0.1',
    '::127.0.0.1',
    '64:ff9b::a9fe:a9fe',
    '64:ff9b::10.0.0.1',
    '64:ff9b:1::1',
    '2002:a9fe:a9fe::1',
    '2002:7f00:1::',
    '2001:0:4136:e378:8000:63bf:3fff:fdd2',
    '2001:db8::1',
    '3fff::1',
    'fc00::1',
    'fd00:ec2::254',
    'fe80::1%eth0',
    'ff02::1',
    'fec0::1',
    'localhost',
    '',
  ])('%s is not public', (address) => {
    expect(isPublicAddress(address)).toBe(false)
  })

  it.each([
    '1.1.1.1',
    '172.15.255.255',
    '172.32.0.1',
    '100.128.0.1',
    '2606:4700:4700::1111',
    '::ffff:1.1.1.1',
    '64:ff9b::101:101',
    '2002:101:101::1',
    '2400:cb00:2048:1::c629:d7a2',
  ])('%s is public', (address) => {
    expect(isPublicAddress(address)).toBe(true)
  })
})

describe('a host that is an address itself', () => {
  it.each([
    'http://2130706433/',
    'http://0x7f.1/',
    'http://0177.0.0.1/',
    'http://[::1]/',
    'http://[::ffff:169.254.169.254]/',
    'http://127.1/',
  ])('%s is refused however it is written', (url) => {
    expect(() => refusePrivateHost(new URL(url).hostname)).toThrow(/not a public address/)
  })

  it('that is public, or a name, is left to the lookup', () => {
    for (const host of ['1.1.1.1', '[2606:4700:4700::1111]', 'partner.example'])
      expect(() => refusePrivateHost(host)).not.toThrow()
  })
})

describe('a name', () => {
  it.each([{ all: true }, { all: false }, {}])('that leads to this machine is refused with %j', async (options) => {
    const { promise, resolve } = Promise.withResolvers<Error | null>()
    guardedLookup('localhost', options, (error) => resolve(error))
    expect((await promise)?.message).toMatch(/localhost leads to .*, which is not a public address/)
  })
})
