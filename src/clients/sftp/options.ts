/** Options by which a component reaches a folder of an SFTP server. */
import { z } from 'zod'
import { duration } from '../../core/job/units.ts'

export const sftpShape = {
  url: z
    .string()
    .regex(/^sftp:\/\/[^/@:]+@[^/@]+\/?$/, 'expected `sftp://user@host:22`, without a password and without a path')
    .describe('The server and its user, `sftp://user@host:22`.'),
  path: z
    .string()
    .regex(
      /^(?!.*\/\/)(?!(?:.*\/)?\.{1,2}(?:\/|$))[^\p{Cc}]*[^\p{Cc}/]$/u,
      'expected a folder such as `/upload/ads` or `upload/ads`, without `.` and `..`, and without `/` at the end',
    )
    .describe(
      'The folder on the server; relative paths begin where the user logs in. Nothing outside of it is touched.',
    ),
  password: z
    .string()
    .min(1)
    .optional()
    .describe('Password of the user: `${SFTP_PASSWORD}` or `${file:/run/secrets/sftp}`.'),
  private_key: z
    .string()
    .min(1)
    .optional()
    .describe('File of the private key of the user (OpenSSH, PEM or PPK), relative to the job file.'),
  passphrase: z.string().min(1).optional().describe('Of the private key, where it is encrypted.'),
  known_hosts: z
    .string()
    .min(1)
    .optional()
    .describe('File in which the key of the server stands, relative to the job file. Default: `~/.ssh/known_hosts`.'),
  host_key: z
    .string()
    .regex(/^SHA256:[A-Za-z0-9+/]{43}$/, 'expected `SHA256:…` as `ssh-keygen -lf` prints it')
    .optional()
    .describe('Fingerprint of the key of the server, in the place of `known_hosts`.'),
  connect_timeout: duration.prefault('10s').describe('How long connecting and logging in may take.'),
  timeout: duration.prefault('1m').describe('How long the server may say nothing; then the write is tried again.'),
} as const

const sftpOptions = z.object(sftpShape)
export type SftpOptions = z.infer<typeof sftpOptions>

/** For superRefine(): how the user logs in, and how the server is known. */
export function loginIsWhole(options: SftpOptions, context: z.RefinementCtx): void {
  const { host_key, known_hosts, passphrase, password, private_key } = options
  if (password === undefined && private_key === undefined)
    context.addIssue({ code: 'custom', path: [], message: 'a `password` or a `private_key` is needed' })
  if (passphrase !== undefined && private_key === undefined)
    context.addIssue({ code: 'custom', path: ['passphrase'], message: '`passphrase` is only for `private_key`' })
  if (host_key !== undefined && known_hosts !== undefined)
    context.addIssue({
      code: 'custom',
      path: ['host_key'],
      message: 'the server is known by `known_hosts` or by `host_key`, not by both',
    })
}
