import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { holderOf, type LockOptions, lockJob } from '../../src/runtime/lock.ts'

let dir = ''
const children: ChildProcess[] = []
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'adflow-lock-'))
})
afterEach(async () => {
  for (const child of children.splice(0)) child.kill('SIGKILL')
  await rm(dir, { recursive: true, force: true })
})

const owner = { command: 'adflow run ads.yaml', run: 'r1' }

/** Another process that takes the lock; resolves when it has it. With `then` it goes on to that code. */
async function otherProcess(options: LockOptions, then = 'setInterval(() => {}, 1000)'): Promise<ChildProcess> {
  const module = JSON.stringify(new URL('../../src/runtime/lock.ts', import.meta.url).href)
  const code = `const { lockJob } = await import(${module})
    const lock = await lockJob(process.argv[1], { command: 'other', run: 'r0' }, ${JSON.stringify(options)})
    console.log('locked')
    ${then}`
  const child = spawn(process.execPath, ['--input-type=module', '-e', code, dir], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  if (child.stdout !== null) await once(child.stdout, 'data')
  return child
}

// Abstract sockets exist on Linux only; the socket file is what other systems use.
const kinds: readonly (readonly [string, LockOptions])[] = [
  ...(process.platform === 'linux' ? [['an abstract socket', { abstract: true }] as const] : []),
  ['a socket file', { abstract: false }],
]

describe.each(kinds)('with %s', (_kind, options) => {
  test('a second lock is refused and names the holder; after close it is free', async () => {
    const first = await lockJob(dir, owner, options)
    await expect(lockJob(dir, { command: 'again', run: 'r2' }, options)).rejects.toMatchObject({
      code: 'JOB_LOCKED',
      exit: 75,
      message: expect.stringContaining(`process ${process.pid} since ${first.since} (\`${owner.command}\`)`),
      details: { holder: { pid: process.pid, since: first.since, ...owner } },
    })
    expect(await holderOf(dir, options)).toEqual({ pid: process.pid, since: first.since, ...owner })
    await first.close()
    expect(await holderOf(dir, options)).toBeUndefined()
    await (await lockJob(dir, owner, options)).close()
  })

  test('of many at once exactly one gets it', async () => {
    const results = await Promise.allSettled(Array.from({ length: 10 }, () => lockJob(dir, owner, options)))
    const won = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []))
    expect(won).toHaveLength(1)
    for (const lock of won) await lock.close()
  })

  test('a process killed with -9 leaves no lock', async () => {
    const child = await otherProcess(options)
    await expect(lockJob(dir, owner, options)).rejects.toThrow(`process ${child.pid} since`)
    child.kill('SIGKILL')
    await once(child, 'exit')
    await (await lockJob(dir, owner, options)).close()
  })

  test('a holder that is stopped still holds it', async () => {
    const child = await otherProcess(options)
    child.kill('SIGSTOP')
    const second = lockJob(dir, owner, { ...options, answerMs: 50 })
    await expect(second).rejects.toMatchObject({
      code: 'JOB_LOCKED',
      message: expect.stringContaining('does not answer'),
    })
  })

  test('the lock does not keep its process alive', async () => {
    const child = await otherProcess(options, '')
    if (child.exitCode === null) await once(child, 'exit')
    expect(child.exitCode).toBe(0)
  })
})

test('someone who asks and never hangs up does not hold up close', async () => {
  const lock = await lockJob(dir, owner, { abstract: false })
  const socket = connect({ path: join(dir, 'lock.sock'), allowHalfOpen: true })
  await once(socket, 'data')
  await lock.close()
  socket.destroy()
})

test('jobs are told apart by their directory, not by the way to it', async () => {
  mkdirSync(join(dir, 'a'))
  mkdirSync(join(dir, 'b'))
  symlinkSync(join(dir, 'a'), join(dir, 'link'))
  const a = await lockJob(join(dir, 'a'), owner)
  const b = await lockJob(join(dir, 'b'), owner)
  await expect(lockJob(join(dir, 'link'), owner)).rejects.toMatchObject({ code: 'JOB_LOCKED' })
  await a.close()
  await b.close()
})

test('a directory too deep for a socket path is locked all the same', async () => {
  const deep = join(dir, 'x'.repeat(120))
  mkdirSync(deep)
  const lock = await lockJob(deep, owner, { abstract: false })
  await expect(lockJob(deep, owner, { abstract: false })).rejects.toMatchObject({ code: 'JOB_LOCKED' })
  await lock.close()
})

test('a stranger on the socket is a holder that cannot be named, and is left alone', async () => {
  const stranger = createServer((socket) => socket.on('error', () => socket.destroy()).end('hello'))
  stranger.listen(join(dir, 'lock.sock'))
  await once(stranger, 'listening')
  await expect(lockJob(dir, owner, { abstract: false })).rejects.toThrow(/held by another process that does not answer/)
  expect(existsSync(join(dir, 'lock.sock'))).toBe(true)
  stranger.close()
})

test('a directory that is not there is LOCAL_IO', async () => {
  await expect(lockJob(join(dir, 'no'), owner)).rejects.toMatchObject({ code: 'LOCAL_IO' })
})
