/**
 * Loaded before the CLI (`node --import`): the process kills itself, by SIGKILL, in the place of its n-th save of a checkpoint.
 * `ADFLOW_TEST_DIE_BEFORE_SAVE` is n, from 1.
 */
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { basename } from 'node:path'

const { rename } = fs.promises
let left = Number(process.env['ADFLOW_TEST_DIE_BEFORE_SAVE'])

Object.assign(fs.promises, {
  rename: (from: string, to: string) => {
    if (/^checkpoint\.[ab]\b/.test(basename(to))) left -= 1
    if (left > 0) return rename(from, to)
    process.kill(process.pid, 'SIGKILL')
    return new Promise(() => {})
  },
})
syncBuiltinESMExports()
