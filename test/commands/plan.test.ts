import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import Plan from '../../src/commands/plan.ts'
import { EXIT } from '../../src/core/errors.ts'
import { runCommand } from './run-command.ts'

let folder = ''
let file = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-plan-command-'))
  file = join(folder, 'job.yaml')
  await writeFile(join(folder, 'a.ndjson'), '{"id":1}\n')
  await writeFile(
    file,
    `version: 1
name: planned
extract: { ads: { type: files, path: a.ndjson }, gone: { type: files, path: none/*.csv, optional: true } }
contract: { columns: { id: bigint } }
transform: [{ derive: { twice: "id * 2" } }]
load: { archive: { type: files, path: out, format: parquet } }
`,
  )
})
afterAll(() => rm(folder, { recursive: true }))

describe('adflow plan', () => {
  it('shows the plan as text, as JSON and as SQL', async () => {
    const text = await runCommand('plan', Plan, [file])
    expect(text).toMatchObject({ exit: EXIT.done, stderr: '' })
    expect(text.stdout).toContain('it has not run yet')
    expect(text.stdout).toMatch(/derive_1 +twice +BIGINT +id/)
    const plan = JSON.parse((await runCommand('plan', Plan, [file, '--json'])).stdout)
    expect(plan).toMatchObject({ schema_version: 1, job: 'planned', batches: 1 })
    expect(plan.loaders[0].paths.map(({ source }: { source: string }) => source)).toEqual(['ads', 'gone'])
    const sql = await runCommand('plan', Plan, [file, '--sql'])
    expect(sql.stdout).toContain('-- derive_1 — derive: rows that go on')
  })

  it('ends with 78 for a job with mistakes', async () => {
    const wrong = join(folder, 'wrong.yaml')
    await writeFile(wrong, 'version: 1\nname: x\n')
    expect((await runCommand('plan', Plan, [wrong])).exit).toBe(EXIT.config)
  })
})
