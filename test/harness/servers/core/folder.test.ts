import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { makeFolder } from './folder.ts'

const FOLDER = fileURLToPath(new URL('folder.ts', import.meta.url))

it('removes what a run that is dead left behind, and nothing of one that lives', () => {
  const mine = makeFolder('mine')
  const script = `import { makeFolder } from '${FOLDER}'; process.stdout.write(makeFolder('dead').path); process.kill(process.pid, 'SIGKILL')`
  const dead = spawnSync(process.execPath, ['--input-type=module', '--eval', script], { encoding: 'utf8' })
  try {
    expect([dead.signal, existsSync(dead.stdout)]).toEqual(['SIGKILL', true])
    const next = makeFolder('next')
    expect([existsSync(dead.stdout), existsSync(mine.path)]).toEqual([false, true])
    next.remove()
  } finally {
    mine.remove()
  }
})
