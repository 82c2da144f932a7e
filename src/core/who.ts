/** Who is at work, for the audit. */
import { userInfo } from 'node:os'

/** Name of the user; a container may run under a number that has none. */
export function whoIsThis(): string {
  try {
    return userInfo().username
  } catch {
    return `uid ${process.getuid?.() ?? 'unknown'}`
  }
}
