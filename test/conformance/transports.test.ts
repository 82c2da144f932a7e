import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import file from '../../src/transports/file.ts'
import { transportConformance } from './suites/transport.ts'

transportConformance('file', {
  definition: file,
  options: { log_file_path: 'out/lineage.ndjson' },
  received: async (folder) => {
    const text = readFileSync(join(folder, 'out', 'lineage.ndjson'), 'utf8')
    return text
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line))
  },
  down: async (folder) => writeFileSync(join(folder, 'out'), 'a file where a folder is wanted'),
  up: async (folder) => rmSync(join(folder, 'out')),
})
