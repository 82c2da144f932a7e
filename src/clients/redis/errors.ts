/** What Redis, or the way to it, has to say, in the words of adflow: try again, ask for access, or change something. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'

interface Meaning {
  readonly pattern: RegExp
  readonly code: ErrorCode
  readonly hint: string
}

/** By the answer of the server, or by the code of Node where it was not reached. The first that fits counts. */
const MEANINGS: readonly Meaning[] = [
  {
    pattern: /WRONGPASS|NOAUTH|invalid password|without any password configured/,
    code: 'STORE_DENIED',
    hint: 'check user and password of the job, and the users of the server (ACL LIST)',
  },
  {
    pattern: /NOPERM|user executing the script|has no permissions/,
    code: 'STORE_DENIED',
    hint: 'let the user of the job run the command on these keys (ACL SETUSER); the reference page lists all that is needed',
  },
  {
    pattern: /\bOOM\b/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the memory of the server is full: raise maxmemory, or remove keys; nothing of this part was written',
  },
  {
    pattern: /READONLY/,
    code: 'STORE_UNAVAILABLE',
    hint: 'this is a read-only replica: name the master in `url`, or ask the Sentinels (`topology: sentinel`)',
  },
  {
    pattern: /MISCONF/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the server cannot save to its disk: free space there, see its log',
  },
  {
    pattern: /NOREPLICAS/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the server wants more replicas before it writes (min-replicas-to-write): bring them back',
  },
  {
    pattern: /cluster support disabled/,
    code: 'STORE_MISMATCH',
    hint: 'this is no cluster: leave `topology` out',
  },
  { pattern: /^MOVED|^ASK/, code: 'STORE_MISMATCH', hint: 'this is a node of a cluster: set `topology: cluster`' },
  {
    pattern: /TRYAGAIN/,
    code: 'STORE_UNAVAILABLE',
    hint: 'a slot is being moved between the nodes of the cluster: its new keys must wait until it has arrived',
  },
  { pattern: /CLUSTERDOWN/, code: 'STORE_UNAVAILABLE', hint: 'a part of the cluster is down: see CLUSTER NODES' },
  {
    pattern: /WRONGTYPE/,
    code: 'STORE_MISMATCH',
    hint: 'give the keys of the job another `prefix`, or remove that key',
  },
  {
    pattern: /LOADING|BUSY|MASTERDOWN|max number of clients/,
    code: 'STORE_UNAVAILABLE',
    hint: 'the server is busy with something else: the next attempt may find it ready',
  },
  {
    pattern: /DB index is out of range|SELECT is not allowed/,
    code: 'STORE_MISMATCH',
    hint: 'name another database in `url`',
  },
  {
    pattern: /CERT|TLS|SELF_SIGNED|LEAF_SIGNATURE|ISSUER|certificate/,
    code: 'STORE_DENIED',
    hint: 'renew the certificate of the server, or name its authority in `tls.ca`',
  },
  { pattern: /^ERR /, code: 'STORE_MISMATCH', hint: 'see the log of the server' },
]

const DOWN = 'check that the server runs and that its address is right'

/** @returns an AdflowError; one that comes in is passed on. `doing` reads "write a batch to ads:*". */
export function explainRedis(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return error
  const text = error instanceof Error ? error.message : String(error)
  const { code = '' } = error as { readonly code?: string }
  const meaning = MEANINGS.find(({ pattern }) => pattern.test(text) || pattern.test(code))
  return new AdflowError(meaning?.code ?? 'STORE_UNAVAILABLE', `cannot ${doing}: ${text}`, {
    cause: error,
    hint: meaning?.hint ?? DOWN,
  })
}

/** true: the server has answered, and the connection is as good as before. */
export function isAnswer(error: unknown): boolean {
  if (error instanceof AdflowError) return true
  if (!(error instanceof Error) || error.name !== 'ReplyError') return false
  return !/^(?:READONLY|MASTERDOWN|LOADING|MOVED|CLUSTERDOWN|NOAUTH)/.test(error.message)
}
