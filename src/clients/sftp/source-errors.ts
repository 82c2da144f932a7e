/** What an SFTP server has to say to whoever reads. */
import { AdflowError, type ErrorCode } from '../../core/errors.ts'
import { ofSource } from '../objects/remote-faults.ts'
import { explainSftp, isMissing } from './errors.ts'

const GOES_ON = 'the next run goes on where this one stopped'

/** @returns an AdflowError SOURCE_…, with `details.outage` where it was the connection. `doing` reads "read sftp://host/folder/file". */
export function explainSource(error: unknown, doing: string): AdflowError {
  if (error instanceof AdflowError) return ofSource(error)
  const told = explainSftp(error, doing)
  const as = (code: ErrorCode, hint: string) => new AdflowError(code, told.message, { cause: error, hint })
  if (isMissing(error))
    return as('SOURCE_MISSING', 'check `path`; what was removed after it was listed is read no more')
  // Of the protocol: permission denied.
  if (statusOf(error) === 3)
    return as('SOURCE_DENIED', 'give the user of the job the right to read it, and to list the folder')
  if (statusOf(error) !== undefined) return ofSource(told)
  const said = ofSource(told)
  if (said.code !== 'SOURCE_UNREADABLE') return said
  return new AdflowError('SOURCE_UNREADABLE', told.message, {
    cause: error,
    hint: `check that the server runs and that \`url\` is right; ${GOES_ON}`,
    details: { outage: true },
  })
}

/** The server has answered. */
function statusOf(error: unknown): number | undefined {
  const { code } = error as { readonly code?: unknown }
  return typeof code === 'number' ? code : undefined
}
