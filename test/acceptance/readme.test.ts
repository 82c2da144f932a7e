/** The first command of the README, as a newcomer types it, over fewer records. */
import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { temporaryFolder } from '../harness/cli.ts'
import { ROOT } from '../harness/repository.ts'

const folder = temporaryFolder('readme')
afterAll(() => folder.remove())

it('the quickstart runs to its end, shows the spend by campaign, and finds what the generator states', () => {
  const env = { ...process.env, ADFLOW_QUICKSTART: join(folder.path, 'quickstart'), ADFLOW_QUICKSTART_ROWS: '20000' }
  const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, 'scripts', 'quickstart.ts')], {
    env,
    encoding: 'utf8',
  })
  expect({ status, stderr }).toEqual({ status: 0, stderr: expect.any(String) })
  expect(stdout).toMatch(/campaign\s+advertiser\s+events\s+spend/)
  expect(stdout.match(/✔ /g)?.length).toBeGreaterThanOrEqual(13)
  expect(stdout).not.toContain('✖')
  expect(stdout).toContain('Every record is accounted for.')
})
