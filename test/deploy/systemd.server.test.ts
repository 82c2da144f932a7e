/** By the tools of systemd itself; and that the daemon tells it what it waits for. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { adflow, temporaryFolder } from '../harness/cli.ts'
import { command, programFromDebian } from '../harness/servers/core/machine.ts'

/** Tenths: 15 is an exposure of 1.5. */
const THRESHOLD = 15
const temporary = temporaryFolder('systemd')
let analyze: string
beforeAll(async () => {
  analyze = await programFromDebian('systemd-analyze', ['systemd'])
})
afterAll(() => temporary.remove())

describe('the unit that is printed', () => {
  it.each([
    ['as it is', []],
    [
      'with stores, a token and folders',
      [
        '--allow',
        '10.0.0.0/8',
        '--allow',
        '2001:db8::/32',
        '--token',
        '/etc/adflow/token',
        '--push',
        '10.0.0.1:9465',
        '--user',
        'nobody',
        '--write',
        '/srv/ware house',
      ],
    ],
  ])('%s is taken by systemd, and leaves little open', async (name, flags) => {
    const folder = join(temporary.path, 'jobs 100% $HOME')
    mkdirSync(folder, { recursive: true })
    const { stdout, code, stderr } = await adflow(['systemd', 'print', folder, ...flags])
    expect([code, stderr]).toEqual([0, ''])
    const unit = join(temporary.path, `adflow${name.length}.service`)
    writeFileSync(unit, stdout)
    expect(await command(analyze, ['verify', '--man=no', unit])).toBe('')
    await command(analyze, ['security', '--offline=true', `--threshold=${THRESHOLD}`, '--no-pager', unit])
    expect(stdout).toMatch(/^Type=notify$/m)
    expect(stdout).toContain('jobs 100%% $$HOME"')
  })

  it('refuses what would break out of a line', async () => {
    const { code } = await adflow(['systemd', 'print', '/jobs', '--user', 'a\nExecStartPre=/bin/sh'])
    expect(code).toBe(2)
  })
})

describe('the daemon under systemd', () => {
  it('says when it is ready, that it lives, and when it stops', async () => {
    // systemd's own program sends what the daemon says; here one of that name keeps it.
    const bin = join(temporary.path, 'bin')
    const jobs = join(temporary.path, 'none')
    mkdirSync(bin)
    mkdirSync(jobs)
    const told = join(temporary.path, 'told')
    writeFileSync(join(bin, 'systemd-notify'), `#!/bin/sh\necho "$@" >> '${told}'\n`, { mode: 0o755 })
    const env = {
      PATH: `${bin}:${process.env['PATH']}`,
      NOTIFY_SOCKET: '/run/none',
      WATCHDOG_USEC: '2000000',
      ADFLOW_STATE_DIR: join(temporary.path, 'state'),
    }
    const lines = async () => (existsSync(told) ? (await command('cat', [told])).trim().split('\n') : [])
    const { code } = await adflow(['daemon', jobs, '--listen', '127.0.0.1:0'], {
      env,
      started: (child) => {
        const timer = setInterval(async () => {
          if ((await lines()).filter((line) => line.startsWith('WATCHDOG=1')).length < 2) return
          clearInterval(timer)
          child.kill('SIGTERM')
        }, 100)
        child.once('exit', () => clearInterval(timer))
      },
    })
    expect(code).toBe(0)
    const all = await lines()
    expect(all[0]).toMatch(/^READY=1/)
    expect(all.at(-1)).toMatch(/^STOPPING=1/)
  })
})
