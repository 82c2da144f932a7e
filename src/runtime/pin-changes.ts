/** What differs between what two runs were made of. */
import { AdflowError } from '../core/errors.ts'
import type { Pin, Pins } from './pins.ts'

/** Parts by name, in words; one line that says so where a pin is not there any more. */
export async function changedParts(pins: Pins, before: string, after: string): Promise<string[]> {
  try {
    return differences(await pins.read(before), await pins.read(after))
  } catch (error) {
    if (error instanceof AdflowError && (error.code === 'STATE_MISSING' || error.code === 'STATE_DAMAGED'))
      return [`something: ${error.message}`]
    throw error
  }
}

function differences(before: Pin, after: Pin): string[] {
  const one = (name: string, a: unknown, b: unknown) => (JSON.stringify(a) === JSON.stringify(b) ? [] : [name])
  const each = (kind: string, a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>) =>
    [...new Set([...Object.keys(a), ...Object.keys(b)])]
      .sort()
      .flatMap((name) => one(`${kind} ${name}`, a[name], b[name]))
  return [
    ...one('job', before.job.text, after.job.text),
    ...one('place of the job file', before.job.file, after.job.file),
    ...each('variable', before.variables, after.variables),
    ...each('secret', before.secrets, after.secrets),
    ...each('reference', before.references, after.references),
    ...each('column taken up', before.evolved, after.evolved),
    ...one(`adflow ${before.adflow} → ${after.adflow}`, before.adflow, after.adflow),
    ...one(`engine ${before.engine} → ${after.engine}`, before.engine, after.engine),
  ]
}
