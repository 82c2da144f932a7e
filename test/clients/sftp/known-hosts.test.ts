import { describe, expect, test } from 'vitest'
import { algorithmsOf, fingerprintOf, keysOfHost, verdictOf } from '../../../src/clients/sftp/known-hosts.ts'

const KEY = 'AAAAC3NzaC1lZDI1NTE5AAAAIGqJLFdTMMBNUq//afLNNIYf+NGOFI5zA45utT97Y8ow'
const OTHER = 'AAAAC3NzaC1lZDI1NTE5AAAAIGqJLFdTMMBNUq//afLNNIYf+NGOFI5zA45utT97Y8oX'
/** By `ssh-keygen -H` of OpenSSH. */
const HASHED = '|1|Mv/K9r2/bv3/EOLemUEO7a9TDXU=|rMFZYY9HuvKm8tRmDFsaYHZ4+Z4='

describe('a line of known_hosts', () => {
  test.for([
    ['sftp.example.com', 'sftp.example.com', 22, true],
    ['sftp.example.com', 'SFTP.Example.COM', 22, true],
    ['sftp.example.com', 'sftp.example.com', 2022, false],
    ['[sftp.example.com]:2022', 'sftp.example.com', 2022, true],
    ['[sftp.example.com]:2022', 'sftp.example.com', 22, false],
    ['10.0.0.1,sftp.example.com', 'sftp.example.com', 22, true],
    ['*.example.com', 'sftp.example.com', 22, true],
    ['*.example.com', 'sftp-example.com', 22, false],
    ['sftp?.example.com', 'sftp1.example.com', 22, true],
    ['*.example.com,!bad.example.com', 'bad.example.com', 22, false],
    ['sftp.example.com', 'sftp.example.com.evil.org', 22, false],
    [HASHED, 'sftp.example.com', 2022, true],
    [HASHED, 'sftp.example.com', 22, false],
    ['# sftp.example.com', 'sftp.example.com', 22, false],
    ['@cert-authority sftp.example.com', 'sftp.example.com', 22, false],
  ] as const)('%s names %s at %i: %s', ([hosts, host, port, named]) => {
    expect(keysOfHost(`\n  ${hosts} ssh-ed25519 ${KEY} a comment\r\n`, host, port)).toHaveLength(named ? 1 : 0)
  })
})

test.for([
  [`host ssh-ed25519 ${KEY}`, 'known'],
  [`host ssh-ed25519 ${OTHER}`, 'changed'],
  [`host ssh-ed25519 ${OTHER}\nhost ssh-ed25519 ${KEY}`, 'known'],
  [`other ssh-ed25519 ${KEY}`, 'unknown'],
  [`@revoked * ssh-ed25519 ${KEY}\nhost ssh-ed25519 ${KEY}`, 'revoked'],
  [`@revoked * ssh-ed25519 ${OTHER}`, 'unknown'],
  ['', 'unknown'],
] as const)('under %j the key is %s', ([text, verdict]) => {
  expect(verdictOf(keysOfHost(text, 'host', 22), Buffer.from(KEY, 'base64'))).toBe(verdict)
})

test('a fingerprint is as ssh-keygen prints it', () => {
  expect(fingerprintOf(Buffer.from(KEY, 'base64'))).toBe('SHA256:+vGMgWMfbVtAJXVr7/zbBxIdi0OO1ryXPZejhLdasos')
})

test('a server is asked for keys that are known, and RSA without SHA-1', () => {
  const known = keysOfHost(`host ssh-rsa ${KEY}\nhost ssh-ed25519 ${KEY}\n@revoked host ecdsa ${OTHER}`, 'host', 22)
  expect(algorithmsOf(known)).toEqual(['rsa-sha2-512', 'rsa-sha2-256', 'ssh-ed25519'])
})
