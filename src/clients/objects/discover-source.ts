/** Files and objects that a place has now. */
import type { Offer } from '../../core/discovery.ts'
import { AdflowError } from '../../core/errors.ts'
import type { FilePlace } from './place.ts'

/** `kind`: what they are called there; `option`: by which one of them is read. Closes `place`. */
export async function* discoverFiles(
  place: FilePlace,
  kind: 'file' | 'object',
  option: string,
  signal: AbortSignal,
): AsyncGenerator<Offer> {
  try {
    const { files, problems } = await place.discover([], signal)
    const [problem] = problems
    if (files.length === 0 && problem !== undefined) throw new AdflowError(problem.code, problem.message)
    for (const { path, facts } of files) {
      const about = `modified ${new Date(facts.modifiedMs).toISOString()}`
      yield { kind, name: path, bytes: facts.size, about, options: { [option]: escaped(path) } }
    }
  } finally {
    await place.close()
  }
}

/** Options take patterns: a name stands for itself only. */
function escaped(path: string): string {
  return path.replace(/[[\]{}()*?!\\]/g, '\\$&')
}
