import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Redis } from 'ioredis'
import { expect, it, onTestFinished, vi } from 'vitest'
import { ROOT } from '../harness/repository.ts'
import { accepts } from '../harness/servers/core/process.ts'
import { serverSuite } from '../harness/servers/suite.ts'

interface Told {
  readonly schema_version: number
  readonly servers: { readonly redis: { readonly endpoint: { url: string }; readonly env: Record<string, string> } }
}

/** The program with one server running. */
async function startRedis(): Promise<{ child: ChildProcess; told: Told; port: number }> {
  const child = spawn(process.execPath, [join(ROOT, 'scripts', 'servers.ts'), '--json', 'redis'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string]
  const told = JSON.parse(line) as Told
  return { child, told, port: Number(new URL(told.servers.redis.endpoint.url).port) }
}

await serverSuite('npm run servers', ['redis'], () => {
  it('tells where its servers are, and stops them on Ctrl-C', async () => {
    const { child, told, port } = await startRedis()
    expect(told.schema_version).toBe(1)
    const { url } = told.servers.redis.endpoint
    expect(told.servers.redis.env).toEqual({ ADFLOW_TEST_REDIS_URL: url })
    const redis = new Redis(url)
    expect(await redis.ping()).toBe('PONG')
    redis.disconnect()
    child.kill('SIGINT')
    expect(await once(child, 'exit')).toEqual([0, null])
    expect(await accepts(port)).toBe(false)
  })

  it('leaves no server behind when it is killed', async () => {
    const { child, port } = await startRedis()
    expect(await accepts(port)).toBe(true)
    child.kill('SIGKILL')
    await vi.waitFor(async () => expect(await accepts(port)).toBe(false), { timeout: 10_000 })
  })
})
