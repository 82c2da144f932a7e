import { chmodSync, existsSync, mkdirSync, statSync, utimesSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { emptyStateFolders, openStateDir, resolveStateDir } from '../../src/runtime/state-dir.ts'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'adflow-state-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

describe('the state directory is', () => {
  const all = {
    ADFLOW_STATE_DIR: '/from/adflow',
    STATE_DIRECTORY: '/var/lib/adflow:/var/lib/other',
    XDG_STATE_HOME: '/home/ann/.state',
  }
  test.each([
    ['the flag, before everything', { flag: '/flag', env: all }, '/flag'],
    ['ADFLOW_STATE_DIR', { env: all }, '/from/adflow'],
    ['the first of STATE_DIRECTORY', { env: { ...all, ADFLOW_STATE_DIR: undefined } }, '/var/lib/adflow'],
    ['under XDG_STATE_HOME', { env: { XDG_STATE_HOME: all.XDG_STATE_HOME } }, '/home/ann/.state/adflow'],
    ['beside the job file', { env: {} }, '/jobs/.adflow'],
    [
      'beside the job file where variables are empty',
      { env: { ADFLOW_STATE_DIR: '', XDG_STATE_HOME: '' } },
      '/jobs/.adflow',
    ],
    ['absolute, where the flag is not', { flag: 'state', env: {} }, resolve('state')],
  ])('%s', (_what, sources, expected) => {
    expect(resolveStateDir({ ...sources, jobFile: '/jobs/ads.yaml' })).toBe(expected)
  })
})

test('opening creates the folders for this user alone, and again does no harm', async () => {
  const state = await openStateDir(join(dir, 'deep', 'state'), 'ads')
  expect(state.path).toBe(join(dir, 'deep', 'state', 'ads'))
  expect(state.database).toBe(join(state.path, 'state.duckdb'))
  for (const folder of [state.path, state.ledger, state.spool, state.chunks, state.temp, state.quarantine])
    expect(statSync(folder).mode & 0o777).toBe(0o700)
  writeFileSync(join(state.ledger, '000001.ndjson'), 'x')
  await openStateDir(join(dir, 'deep', 'state'), 'ads')
  expect(existsSync(join(state.ledger, '000001.ndjson'))).toBe(true)
})

test('a state directory that cannot be written is LOCAL_IO with its path', async () => {
  const expected = { code: 'LOCAL_IO', exit: 74, hint: expect.stringContaining('--state-dir') }
  writeFileSync(join(dir, 'file'), '')
  await expect(openStateDir(join(dir, 'file'), 'ads')).rejects.toMatchObject({
    ...expected,
    message: expect.stringContaining(join(dir, 'file', 'ads')),
  })
  await openStateDir(dir, 'ads')
  chmodSync(join(dir, 'ads'), 0o555)
  chmodSync(dir, 0o755)
  // Root writes where nobody may: the test steps down to a user who must obey the mode.
  const root = process.getuid?.() === 0
  if (root) process.seteuid?.(65534)
  try {
    await expect(openStateDir(dir, 'ads')).rejects.toMatchObject(expected)
  } finally {
    if (root) process.seteuid?.(0)
    chmodSync(join(dir, 'ads'), 0o755)
  }
})

test('what a killed run left is removed; what is durable stays', async () => {
  const state = await openStateDir(dir, 'ads')
  mkdirSync(join(state.spoolOf('dw')))
  mkdirSync(join(state.temp, 'spill'))
  const old = performance.timeOrigin / 1000 - 60
  const left = [join(state.chunks, 'c1'), join(state.temp, 'spill', 'x')]
  for (const folder of [state.path, state.ledger, state.quarantine, state.spoolOf('dw')])
    left.push(join(folder, '.checkpoint.a.4711.1.tmp'))
  const kept = [
    join(state.path, 'checkpoint.a'),
    join(state.spoolOf('dw'), 't.parquet'),
    join(state.quarantine, 't.ndjson'),
  ]
  for (const path of [...left, ...kept]) {
    writeFileSync(path, '')
    utimesSync(path, old, old)
  }
  await emptyStateFolders(state)
  expect(left.filter(existsSync)).toEqual([])
  expect(kept.filter(existsSync)).toEqual(kept)
})
