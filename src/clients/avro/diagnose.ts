/** Where the schemas of Avro values come from, before a run asks for one. */
import type { DiagnoseEnv, Finding } from '../../core/diagnosis.ts'
import { findingsAt } from '../../core/findings.ts'
import { type AvroOptions, jobSchema } from './options.ts'
import { SchemaRegistry } from './registry.ts'

export async function* diagnoseSchemas(
  options: AvroOptions | undefined,
  { baseDir, answerMs, signal }: DiagnoseEnv,
): AsyncGenerator<Finding> {
  if (options?.registry === undefined) {
    if (options !== undefined) jobSchema(options, baseDir)
    return
  }
  const { registry: chosen } = options
  const timeout = Math.min(chosen.timeout, answerMs)
  const registry = new SchemaRegistry({ ...chosen, timeout, attempts: 1 }, baseDir)
  const at = findingsAt(registry.place)
  try {
    const types = await registry.types(signal)
    const taken = chosen.auth === undefined ? '' : ', and takes the credentials'
    if (Array.isArray(types) && types.includes('AVRO')) yield at.ok('reachable', `a registry of Avro answers${taken}`)
    else yield at.warning('reachable', 'the registry does not say that it keeps Avro', 'check `avro.registry.url`')
  } catch (error) {
    if (signal.aborted) throw error
    yield at.failure('reachable', error, 'SOURCE_UNREADABLE')
  } finally {
    await registry.close()
  }
}
