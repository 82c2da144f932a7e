/** A certificate authority of the test's own, and server certificates from it, good or expired. */
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
// x509 is built on tsyringe, which wants it loaded first.
import 'reflect-metadata'
import * as x509 from '@peculiar/x509'
import type { Folder } from './folder.ts'

export interface Certificate {
  /** PEM of the authority, for clients to trust. */
  readonly authorityFile: string
  readonly certificateFile: string
  readonly keyFile: string
}

export interface CertificateOptions {
  /** Default: in a day. */
  readonly notAfter?: Date
  /** Names and addresses that it is for. Default: localhost, 127.0.0.1. */
  readonly names?: readonly string[]
}

const DAY_MS = 86_400_000
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const

/** For `127.0.0.1` unless told otherwise. */
export async function makeCertificate(folder: Folder, options: CertificateOptions = {}): Promise<Certificate> {
  const notAfter = options.notAfter ?? new Date(Date.now() + DAY_MS)
  const notBefore = new Date(Math.min(Date.now(), notAfter.getTime()) - DAY_MS)
  const authorityKeys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const authority = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=adflow test authority',
    notBefore,
    notAfter: new Date(Date.now() + DAY_MS),
    signingAlgorithm: ALGORITHM,
    keys: authorityKeys,
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true)],
  })
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const names = options.names ?? ['localhost', '127.0.0.1']
  const certificate = await x509.X509CertificateGenerator.create({
    subject: `CN=${names[0]}`,
    issuer: authority.subject,
    notBefore,
    notAfter,
    signingAlgorithm: ALGORITHM,
    publicKey: keys.publicKey,
    signingKey: authorityKeys.privateKey,
    extensions: [
      new x509.SubjectAlternativeNameExtension(
        names.map((name) => ({ type: /^[\d.]+$/.test(name) ? 'ip' : 'dns', value: name })),
      ),
    ],
  })
  const key = await crypto.subtle.exportKey('pkcs8', keys.privateKey)
  const files = {
    authorityFile: folder.write('authority.pem', authority.toString('pem')),
    certificateFile: folder.write('server.pem', certificate.toString('pem')),
    keyFile: join(folder.path, 'server.key'),
  }
  writeFileSync(files.keyFile, x509.PemConverter.encode(key, 'PRIVATE KEY'))
  chmodSync(files.keyFile, 0o600)
  return files
}
