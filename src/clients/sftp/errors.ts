/** What an SFTP server, or the way to it, has to say, in the words of adflow. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'

interface Meaning {
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

/** By what the client says: its codes tell little. The first that fits counts. */
const MEANINGS: readonly Meaning[] = [
  {
    pattern: /authentication methods failed/i,
    code: 'STORE_DENIED',
    hint: 'check the user of `url` and `password` or `private_key` of the job, and what the server accepts',
  },
  {
    pattern: /no passphrase given|integrity check failed|bad passphrase|bad decrypt/i,
    code: 'STORE_DENIED',
    hint: 'set the right `passphrase` of the private key',
  },
  {
    pattern: /cannot parse privatekey|unsupported key format/i,
    code: 'STORE_DENIED',
    hint: 'name a private key in the format of OpenSSH, PEM or PPK in `private_key`',
  },
  {
    pattern: /no matching (?:host key|key exchange|.*cipher|.*mac)/i,
    code: 'STORE_DENIED',
    hint: 'the server has no key of a kind that is known of it, or nothing but methods that are not safe: put its present key into known_hosts, after asking its owner',
  },
  {
    pattern: /permission denied/i,
    code: 'STORE_DENIED',
    hint: 'give the user of the job the right to write into `path`, and to make folders there',
  },
  {
    pattern: /op unsupported|operation unsupported|does not support/i,
    code: 'STORE_MISMATCH',
    hint: 'the server needs posix-rename@openssh.com, so that files appear in one step; OpenSSH, ProFTPD and SFTPGo have it',
  },
  {
    pattern: /no such file/i,
    code: 'STORE_MISMATCH',
    hint: 'make the folder, name another in `path`, or set `create: missing`',
  },
]

const DOWN = 'check that the server runs, that `url` is right, and that its disk has room'

/** @returns an AdflowError; one that comes in is passed on. `doing` reads "write sftp://host/folder/file". */
export function explainSftp(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return error
  const text = textOf(error)
  const meaning = MEANINGS.find(({ pattern }) => pattern.test(text))
  return new AdflowError(meaning?.code ?? 'STORE_UNAVAILABLE', `cannot ${doing}: ${text}`, {
    cause: error,
    hint: meaning?.hint ?? DOWN,
  })
}

/** Status of the protocol: there is no such file. */
export function isMissing(error: unknown): boolean {
  return (error as { readonly code?: unknown } | undefined)?.code === 2
}

/** Status of the protocol: the file ends here. */
export function isEnd(error: unknown): boolean {
  return (error as { readonly code?: unknown } | undefined)?.code === 1
}

/** Status of the protocol for all that has no status of its own: the name is taken, the disk is full. */
export function isFailure(error: unknown): boolean {
  return (error as { readonly code?: unknown } | undefined)?.code === 4
}

function textOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error)
  // What the client puts before it names its own functions.
  return text.replace(/^getConnection: /, '')
}
