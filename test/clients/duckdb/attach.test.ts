import { spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { aliasOf, explainAttachError, warehouseFile } from '../../../src/clients/duckdb/attach.ts'
import { Engine } from '../../../src/engine/session.ts'

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'adflow-attach-')))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

async function attach(file: string): Promise<Engine> {
  const options = { memoryBytes: 100_000_000, threads: 1, tempFolder: folder, attach: [{ file, as: aliasOf(file) }] }
  try {
    return await Engine.open(options)
  } catch (error) {
    throw explainAttachError(error, file)
  }
}

test('a warehouse that another process has open is named with that process, and worth another try', async () => {
  const file = join(folder, 'held.duckdb')
  const engine = await attach(file)
  const script = `
    const { DuckDBInstance } = await import('@duckdb/node-api')
    const connection = await (await DuckDBInstance.create(':memory:')).connect()
    await connection.run("ATTACH '${file}' AS held").catch((error) => process.stdout.write(error.message))`
  const said = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' })
  engine.close()
  const error = explainAttachError(new Error(said.stdout), file)
  expect(error).toMatchObject({ code: 'STORE_LOCKED', exit: 75, retryable: true })
  expect(error.message).toContain(`process ${process.pid} (`)
})

test.for([
  ['a file that is something else', (file: string) => writeFileSync(file, 'x'.repeat(10_000)), 'STORE_DAMAGED'],
  ['a folder', (file: string) => mkdirSync(file), 'STORE_UNAVAILABLE'],
] as const)('%s is refused by its path', async ([name, make, code]) => {
  const file = join(folder, `${name}.duckdb`)
  make(file)
  const error = await attach(file).catch((reason) => reason)
  expect(error).toMatchObject({ code, hint: expect.any(String) })
  expect(error.message).toContain(file)
})

test('the folder of a warehouse is made, links are followed, and one file has one name', () => {
  mkdirSync(join(folder, 'real'))
  symlinkSync(join(folder, 'real'), join(folder, 'link'))
  const file = warehouseFile('link/deep/w.duckdb', folder)
  expect(file).toBe(join(folder, 'real/deep/w.duckdb'))
  expect(aliasOf(warehouseFile('real/deep/w.duckdb', folder))).toBe(aliasOf(file))
})
