/** Certificates that a job names: an authority that this machine does not know, a client that shows who it is. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { z } from 'zod'
import { AdflowError } from './errors.ts'
import { registerSecret } from './job/secrets.ts'

export const tlsShape = {
  ca: z.string().min(1).optional().describe('File of the authority that signed the certificate of the server.'),
  certificate: z.string().min(1).optional().describe('File of the certificate that the client shows.'),
  key: z.string().min(1).optional().describe('File of the key to `certificate`.'),
} as const

/** Of connections that may go without, by a protocol that does not say so in its address. */
export const tlsModeShape = {
  mode: z
    .enum(['verify', 'off'])
    .optional()
    .describe(
      '`verify`: encrypted, and certificate and host name are checked. Default: `off` on this machine, else `verify`.',
    ),
  ...tlsShape,
} as const

export const tlsOptions = z
  .strictObject(tlsShape)
  .refine(({ certificate, key }) => (certificate === undefined) === (key === undefined), {
    path: ['key'],
    message: '`certificate` and `key` belong together',
  })
  .describe(
    'Certificates, in PEM. Paths are relative to the job file. The certificate of the server is always checked.',
  )

export type TlsOptions = z.infer<typeof tlsOptions>

export interface TlsMaterial {
  readonly ca?: Buffer
  readonly cert?: Buffer
  readonly key?: Buffer
}

/** @throws AdflowError SECRET_UNREADABLE where a file cannot be read */
export function tlsMaterial({ ca, certificate, key }: Partial<TlsOptions>, baseDir: string): TlsMaterial {
  const file = (option: string, path: string): Buffer => {
    try {
      return readFileSync(resolve(baseDir, path))
    } catch (error) {
      throw new AdflowError('SECRET_UNREADABLE', `cannot read \`tls.${option}\`: ${(error as Error).message}`, {
        cause: error,
        hint: 'name a PEM file; paths are relative to the job file',
      })
    }
  }
  const secret = key === undefined ? undefined : file('key', key)
  if (secret !== undefined) registerSecret(secret.toString())
  return {
    ...(ca === undefined ? {} : { ca: file('ca', ca) }),
    ...(certificate === undefined ? {} : { cert: file('certificate', certificate) }),
    ...(secret === undefined ? {} : { key: secret }),
  }
}
