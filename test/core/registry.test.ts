import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadRegistry } from '../../src/core/registry.ts'
import { files } from './job/fake-registry.ts'

let root = ''
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'adflow-registry-'))
  await mkdir(join(root, 'extractors', 'parts'), { recursive: true })
  await mkdir(join(root, 'loaders'))
  const content: Record<string, string> = {
    'extractors/kafka.js': "globalThis.imported = 'kafka'\nexport default { kind: 'extractor', summary: 'Kafka.' }",
    'extractors/http.ts': "const kind: string = 'extractor'\nexport default { kind, summary: 'HTTP.' }",
    'extractors/kafka.d.ts': 'export {}',
    'extractors/kafka.js.map': '{}',
    'extractors/notes.txt': '',
    'extractors/parts/cut.js': '',
    'loaders/wrong.js': "export default { kind: 'step' }",
    'loaders/bare.js': 'export const x = 1',
  }
  for (const [file, text] of Object.entries(content)) await writeFile(join(root, file), text)
})
afterAll(() => rm(root, { recursive: true }))

describe('the registry', () => {
  it('finds components by file name, from sources and from a build, and imports none to list them', async () => {
    const registry = await loadRegistry({ root })
    expect(registry.types('extractor')).toEqual(['http', 'kafka'])
    expect(registry.types('step')).toEqual([])
    expect(globalThis).not.toHaveProperty('imported')
    expect(await registry.get('extractor', 'kafka')).toMatchObject({ summary: 'Kafka.' })
    expect(await registry.get('extractor', 'http')).toMatchObject({ summary: 'HTTP.' })
  })

  it('takes components from elsewhere, which win', async () => {
    const registry = await loadRegistry({ root, extra: { extractor: { kafka: files, files } } })
    expect(registry.types('extractor')).toEqual(['files', 'http', 'kafka'])
    expect(await registry.get('extractor', 'kafka')).toBe(files)
  })

  it('says which component was probably meant', async () => {
    const registry = await loadRegistry({ root })
    await expect(registry.get('extractor', 'kafak')).rejects.toMatchObject({
      code: 'USAGE',
      hint: 'did you mean `kafka`?',
    })
    await expect(registry.get('extractor', 'constructor')).rejects.toMatchObject({ hint: 'there are: http, kafka' })
  })

  it.each(['wrong', 'bare'])('refuses the file %s that exports no loader', async (type) => {
    const registry = await loadRegistry({ root })
    await expect(registry.get('loader', type)).rejects.toMatchObject({ hint: 'export default defineLoader({ … })' })
  })

  it('finds the components of this project, each of its kind and with an example that its options accept', async () => {
    const registry = await loadRegistry()
    expect(registry.types('step')).toContain('derive')
    for (const kind of ['extractor', 'step', 'loader'] as const)
      for (const type of registry.types(kind)) {
        const { options, example } = await registry.get(kind, type)
        expect(options.safeParse(example), `${kind} ${type}`).toMatchObject({ success: true })
      }
  })
})
