import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { temporaryFolder } from '../../cli.ts'
import { startInstance } from './instance.ts'
import { defineServer } from './kind.ts'
import { isAlive } from './pids.ts'
import { accepts } from './process.ts'

/** A server of three lines, with a child that is in a group of its own, as PostgreSQL's are. */
const LISTENER = `
const child = require('node:child_process').spawn('sleep', ['1000'], { stdio: 'ignore', detached: true })
console.log('child', child.pid)
require('node:net').createServer().listen(Number(process.argv[1]), '127.0.0.1', () => console.log('listens'))
`

const listener = defineServer<{ port: string; log: string }, { script?: string }>({
  name: 'listener',
  summary: 'for this test',
  variables: { port: 'NONE', log: 'NONE' },
  install: async () => undefined,
  async start(context, { script = LISTENER }) {
    const port = await context.port()
    const log = join(context.folder.path, 'log')
    await context.run({
      command: process.execPath,
      args: ['-e', script, String(port)],
      log,
      ready: (logged) => logged().includes('listens'),
    })
    return { port: String(port), log }
  },
})

it('kills a server with its children, and starts it again at the same address', async () => {
  await using server = await startInstance(listener, {})
  const port = Number(server.endpoint.port)
  const child = childOf(server.processes[0]?.logTail())
  expect(isAlive(child)).toBe(true)
  await server.kill9()
  expect([isAlive(child), await accepts(port)]).toEqual([false, false])
  await server.restart()
  expect(await accepts(port)).toBe(true)
  await server.restart()
  expect(await accepts(port)).toBe(true)
})

it('ends a server that is held still, and removes its folder', async () => {
  const server = await startInstance(listener, {})
  server.stop()
  await server.end()
  expect([await accepts(Number(server.endpoint.port)), existsSync(server.folder.path)]).toEqual([false, false])
})

it('says what a server that does not start wrote last', async () => {
  const folder = temporaryFolder('no-server')
  try {
    const script = "console.error('no such luck'); process.exit(3)"
    await expect(startInstance(listener, { script })).rejects.toThrow('no such luck')
  } finally {
    folder.remove()
  }
})

function childOf(log = ''): number {
  return Number(/child (\d+)/.exec(log)?.[1])
}
