/** `--key column=value` flags. */
import { AdflowError } from '../core/errors.ts'

export function parseKeys(flags: readonly string[] = []): Record<string, string> {
  return Object.fromEntries(
    flags.map((flag) => {
      const at = flag.indexOf('=')
      if (at > 0) return [flag.slice(0, at), flag.slice(at + 1)]
      throw new AdflowError('USAGE', `--key ${flag} is not column=value`, { hint: 'write --key event_id=42' })
    }),
  )
}
