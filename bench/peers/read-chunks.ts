/**
 * An extractor alone, as a run reads it: fetched, kept durably where its source cannot be read again, cut into chunks, counted, summed; nobody reads
 * the chunks. `read-chunks.ts TYPE OPTIONS FOLDER ROWS`, with a folder that is not there yet. Fails where the chunks have not so many records.
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { pino } from 'pino'
import type { Extractor, ExtractorEnv } from '../../src/core/contracts.ts'

const [type = '', options = '{}', folder = '', expected] = process.argv.slice(2)
const [chunkDir, stageDir] = [join(folder, 'chunks'), join(folder, 'staged')]
for (const path of [chunkDir, stageDir]) mkdirSync(path, { recursive: true })
const { default: definition } = (await import(`../../dist/extractors/${type}.js`)) as {
  default: { options: { parse(options: unknown): unknown }; create(options: unknown, env: ExtractorEnv): Extractor }
}
const env = { id: 'events', job: 'bench', baseDir: folder, log: pino({ enabled: false }), chunkDir, stageDir }
const extractor = definition.create(definition.options.parse(JSON.parse(options)), env)
const items = extractor.read({
  from: {},
  planned: [],
  until: 'now',
  chunkBytes: 64 << 20,
  maxRecordBytes: 16 << 20,
  parallel: 2,
  signal: new AbortController().signal,
})
let records = 0
for await (const item of items) {
  if ('gap' in item) throw new Error(item.message)
  const { range, mark } = item
  records += item.records
  await item.release()
  await extractor.commit?.({ [range.lane]: { at: range.to, ...(mark === undefined ? {} : { mark }) } })
}
await extractor.close()
if (records !== Number(expected)) throw new Error(`${records} records, expected ${expected}`)
