import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, onTestFinished } from 'vitest'
import { generateSample } from '../../src/sample/generate.ts'
import { sampleText } from '../../src/sample/summary.ts'

it('says in a few lines what is in the folder, the spend to the last micro', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'adflow-sample-'))
  onTestFinished(() => rmSync(dir, { recursive: true }))
  const truth = await generateSample({ dir, rows: 1_000, files: 1, defects: 'late=3' })
  const text = sampleText('data', { ...truth, spend_micros: '9007199254740993000001' })
  expect(text).toMatch(/records +1,000/)
  expect(text).toMatch(/good events, each once +997/)
  expect(text).toMatch(/spend +9,007,199,254,740,993\.000001/)
  expect(text).toMatch(/defect late +3/)
  expect(text).toMatch(/1 ndjson file, 0\.3 MB|1 ndjson file, \d+\.\d kB/)
})
