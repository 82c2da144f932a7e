import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { findJob } from '../../../src/core/job/find.ts'

let cwd = ''
beforeAll(async () => {
  cwd = await mkdtemp(join(tmpdir(), 'adflow-find-'))
  await mkdir(join(cwd, 'jobs'))
  await mkdir(join(cwd, 'lonely'))
  await mkdir(join(cwd, 'empty'))
  for (const file of ['jobs/quickstart.yaml', 'jobs/partner.yml', 'local.yaml', 'lonely/only.yaml'])
    await writeFile(join(cwd, file), 'version: 1\n')
})
afterAll(() => rm(cwd, { recursive: true }))

describe('findJob', () => {
  it.each([
    [{ path: 'jobs/quickstart.yaml' }, 'jobs/quickstart.yaml'],
    [{ path: './local.yaml' }, './local.yaml'],
    [{ path: 'quickstart' }, 'jobs/quickstart.yaml'],
    [{ name: 'partner' }, 'jobs/partner.yml'],
    [{ name: 'local' }, 'local.yaml'],
  ])('%j is %s', async (wanted, expected) => {
    expect(await findJob({ ...wanted, cwd })).toBe(expected)
  })

  it('takes the only job there is when none is named', async () => {
    expect(await findJob({ cwd: join(cwd, 'lonely') })).toBe('only.yaml')
  })

  it.each([
    ['a mistyped name', { name: 'quikstart' }, /no job quikstart/, /did you mean `quickstart`/],
    [
      'a mistyped path',
      { path: 'jobs/quikstart.yaml' },
      /no job file jobs\/quikstart\.yaml/,
      /did you mean `jobs\/quickstart\.yaml`/,
    ],
    ['a name far off', { name: 'zzz' }, /no job zzz/, /job files here: jobs\/partner\.yml/],
    ['no name among several', {}, /no job was named/, /jobs\/quickstart\.yaml/],
  ])('%s is an error that says what there is', async (_, wanted, message, hint) => {
    await expect(findJob({ ...wanted, cwd })).rejects.toMatchObject({
      code: 'JOB_NOT_FOUND',
      exit: 78,
      message: expect.stringMatching(message),
      hint: expect.stringMatching(hint),
    })
  })

  it('says how to begin where there are no jobs', async () => {
    await expect(findJob({ cwd: join(cwd, 'empty') })).rejects.toMatchObject({
      hint: expect.stringContaining('adflow init'),
    })
  })
})
