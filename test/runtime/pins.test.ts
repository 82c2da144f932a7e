import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { loadJob } from '../../src/core/job/load.ts'
import { loadRegistry } from '../../src/core/registry.ts'
import { Pins } from '../../src/runtime/pins.ts'

let folder: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-pins-'))
  writeFileSync(join(folder, 'campaigns.csv'), 'id,name\n1,Spring\n')
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const JOB = `version: 1
name: clicks
extract: { ads: { type: files, path: "\${INPUT:-in}/*.ndjson" } }
contract: { columns: { id: bigint, user: varchar } }
transform:
  - mask: { user: hmac, key: "\${MASK_KEY}" }
load: { out: { type: files, format: parquet, path: out } }
`
const SECRET = 'a secret of at least 16 bytes'
const jobWith = async (env: Readonly<Record<string, string>>) => {
  const file = join(folder, 'clicks.yaml')
  writeFileSync(file, JOB)
  return loadJob(file, { registry: await loadRegistry(), env })
}
const save = async (pins: Pins, env: Readonly<Record<string, string>> = { MASK_KEY: SECRET }) =>
  pins.save({ job: await jobWith(env), adflow: '1', engine: 'v1' })

test('the same job with the same data has the same pin; another variable or other data have another', async () => {
  const ids = new Set<string>()
  for (const env of [{ MASK_KEY: SECRET }, { MASK_KEY: SECRET }, { MASK_KEY: SECRET, INPUT: 'elsewhere' }])
    ids.add(await save(new Pins(join(folder, 'pins')), env))
  expect(ids.size).toBe(2)
  for (const rows of ['2,Summer\n', '2,Summer\n']) {
    writeFileSync(join(folder, 'campaigns.csv'), `id,name\n${rows}`)
    const pins = new Pins(join(folder, 'pins'))
    await pins.keep(join(folder, 'campaigns.csv'))
    ids.add(await save(pins))
  }
  expect(ids.size).toBe(3)
})

test('reference data is read as it was, whatever the file holds by now', async () => {
  const file = join(folder, 'campaigns.csv')
  const pins = new Pins(join(folder, 'pins'))
  expect(readFileSync(await pins.keep(file), 'utf8')).toBe('id,name\n1,Spring\n')
  writeFileSync(file, 'id,name\n1,Autumn\n')
  const pin = await pins.read(await save(pins))
  const kept = await pins.locate(pin, file)
  expect(readFileSync(kept, 'utf8')).toBe('id,name\n1,Spring\n')
  writeFileSync(kept, 'id,name\n1,Winter\n')
  await expect(pins.locate(pin, file)).rejects.toMatchObject({ code: 'STATE_MISSING' })
})

test('copies that were not saved are gone', async () => {
  const pins = new Pins(join(folder, 'pins'))
  await pins.keep(join(folder, 'campaigns.csv'))
  await pins.discard()
  expect(readdirSync(join(folder, 'pins'))).toEqual([])
})

test('no secret is written anywhere, and a secret that is another by now is named', async () => {
  const pins = new Pins(join(folder, 'pins'))
  const id = await save(pins)
  const written = readdirSync(join(folder, 'pins'), { withFileTypes: true }).filter((entry) => entry.isFile())
  expect(written.length).toBe(2)
  for (const { name } of written) expect(readFileSync(join(folder, 'pins', name)).includes(SECRET)).toBe(false)
  const pin = await pins.read(id)
  const job = await jobWith({ MASK_KEY: SECRET })
  expect(await pins.environment(pin, job, { MASK_KEY: SECRET })).toMatchObject({ changed: [] })
  expect(await pins.environment(pin, job, { MASK_KEY: 'another secret of 16' })).toMatchObject({
    changed: ['MASK_KEY'],
  })
})

test('variables of the run win over those of today', async () => {
  const pins = new Pins(join(folder, 'pins'))
  const env = { MASK_KEY: SECRET, INPUT: 'then' }
  const pin = await pins.read(await save(pins, env))
  const { env: then } = await pins.environment(pin, await jobWith(env), { MASK_KEY: SECRET, INPUT: 'now' })
  expect(then['INPUT']).toBe('then')
})

test('a pin that was changed is refused by its name, and one that is gone too', async () => {
  const pins = new Pins(join(folder, 'pins'))
  const id = await save(pins)
  const path = join(folder, 'pins', `${id}.json`)
  writeFileSync(path, readFileSync(path, 'utf8').replace('"adflow":"1"', '"adflow":"2"'))
  await expect(pins.read(id)).rejects.toMatchObject({ code: 'STATE_DAMAGED' })
  rmSync(path)
  await expect(pins.read(id)).rejects.toMatchObject({ code: 'STATE_MISSING' })
})
