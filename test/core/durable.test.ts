import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs'
import { mkdtemp, open, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  appendDurably,
  publish,
  removeDurably,
  sweepTemporaries,
  temporaryPath,
  writeDurably,
} from '../../src/core/durable.ts'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'adflow-durable-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

describe('writeDurably', () => {
  test.each([
    ['a string', 'Grüße', 'Grüße'],
    ['a buffer', Buffer.from('abc'), 'abc'],
    ['a list of parts', [Buffer.from('ab'), new Uint8Array([99]), Buffer.alloc(0)], 'abc'],
    ['nothing', '', ''],
  ])('writes %s and leaves no temporary file', async (_what, data, expected) => {
    await writeDurably(join(dir, 'x'), data)
    expect(readFileSync(join(dir, 'x'), 'utf8')).toBe(expected)
    expect(readdirSync(dir)).toEqual(['x'])
  })

  test('two writers of one file in one process leave one whole content', async () => {
    const contents = Array.from({ length: 8 }, (_, i) => String(i).repeat(50_000))
    await Promise.all(contents.map((content) => writeDurably(join(dir, 'x'), content)))
    expect(contents).toContain(readFileSync(join(dir, 'x'), 'utf8'))
    expect(readdirSync(dir)).toEqual(['x'])
  })

  test('a folder that is not there is a LOCAL_IO error that names the file', async () => {
    await expect(writeDurably(join(dir, 'no', 'x'), 'a')).rejects.toMatchObject({
      code: 'LOCAL_IO',
      exit: 74,
      message: expect.stringContaining(join(dir, 'no', 'x')),
    })
  })

  test('when the rename fails, the temporary file is removed', async () => {
    mkdirSync(join(dir, 'x', 'full'), { recursive: true })
    await expect(writeDurably(join(dir, 'x'), 'a')).rejects.toMatchObject({ code: 'LOCAL_IO' })
    expect(readdirSync(dir)).toEqual(['x'])
  })

  test('appends any number of pieces behind what is there, empty ones too', async () => {
    const path = join(dir, 'log')
    writeFileSync(path, 'head')
    const handle = await open(path, 'a')
    const pieces = Array.from({ length: 5000 }, (_, n) => Buffer.from(n % 7 === 0 ? '' : `${n};`))
    await appendDurably(handle, pieces, path)
    await appendDurably(handle, [], path)
    await handle.close()
    expect(readFileSync(path, 'utf8')).toBe(`head${Buffer.concat(pieces)}`)
  })

  if (existsSync('/dev/full'))
    test('a full disk is DISK_FULL', async () => {
      const handle = await open('/dev/full', 'a')
      await expect(appendDurably(handle, 'x', '/dev/full')).rejects.toMatchObject({ code: 'DISK_FULL', exit: 74 })
      await handle.close()
    })
})

describe('publish', () => {
  test('replaces the final file and takes the temporary one away', async () => {
    const temporary = temporaryPath(join(dir, 'final'))
    writeFileSync(join(dir, 'final'), 'old')
    writeFileSync(temporary, 'new')
    await publish(temporary, join(dir, 'final'))
    expect(readFileSync(join(dir, 'final'), 'utf8')).toBe('new')
    expect(readdirSync(dir)).toEqual(['final'])
  })

  if (existsSync('/dev/shm'))
    test('works across file systems', async () => {
      const elsewhere = await mkdtemp('/dev/shm/adflow-')
      try {
        writeFileSync(join(elsewhere, 'part'), 'bytes')
        await publish(join(elsewhere, 'part'), join(dir, 'final'))
        expect(readFileSync(join(dir, 'final'), 'utf8')).toBe('bytes')
        expect(readdirSync(dir)).toEqual(['final'])
        expect(readdirSync(elsewhere)).toEqual([])
      } finally {
        await rm(elsewhere, { recursive: true })
      }
    })

  test('a temporary file that is not there is an error, and the final one stays', async () => {
    writeFileSync(join(dir, 'final'), 'old')
    await expect(publish(join(dir, 'gone'), join(dir, 'final'))).rejects.toMatchObject({ code: 'LOCAL_IO' })
    expect(readFileSync(join(dir, 'final'), 'utf8')).toBe('old')
  })
})

test('appendDurably adds to the end', async () => {
  const handle = await open(join(dir, 'log'), 'a')
  await appendDurably(handle, 'a\n', 'log')
  await appendDurably(handle, Buffer.from('b\n'), 'log')
  await handle.close()
  expect(readFileSync(join(dir, 'log'), 'utf8')).toBe('a\nb\n')
})

test('removeDurably removes a file, and does not mind one that is gone', async () => {
  writeFileSync(join(dir, 'x'), '')
  await removeDurably(join(dir, 'x'))
  await removeDurably(join(dir, 'x'))
  expect(readdirSync(dir)).toEqual([])
})

test('a folder without permission to write is LOCAL_IO', async () => {
  chmodSync(dir, 0o555)
  const root = process.getuid?.() === 0
  if (root) process.seteuid?.(65534)
  try {
    await expect(writeDurably(join(dir, 'x'), 'a')).rejects.toMatchObject({ code: 'LOCAL_IO', exit: 74 })
  } finally {
    if (root) process.seteuid?.(0)
    chmodSync(dir, 0o755)
  }
})

describe('sweepTemporaries', () => {
  const age = (path: string, hours: number) => {
    const at = (performance.timeOrigin - hours * 3_600_000) / 1000
    utimesSync(path, at, at)
  }

  test('removes what an earlier process left, and nothing else', async () => {
    const left = join(dir, '.checkpoint.a.4711.3.tmp')
    const leftBySamePid = join(dir, `.x.${process.pid}.900.tmp`)
    for (const path of [left, leftBySamePid, join(dir, 'data.tmp'), join(dir, '.x.tmp'), join(dir, 'checkpoint.a')]) {
      writeFileSync(path, '')
      age(path, 1)
    }
    const mine = temporaryPath(join(dir, 'x'))
    writeFileSync(mine, '')
    expect(await sweepTemporaries(dir)).toEqual([left, leftBySamePid].sort())
    expect(readdirSync(dir).map((name) => join(dir, name))).toEqual(
      [mine, join(dir, '.x.tmp'), join(dir, 'checkpoint.a'), join(dir, 'data.tmp')].sort(),
    )
  })

  test('is not disturbed by files that go away while it looks, as those of another job do', async () => {
    let over = false
    const writing = Array.from({ length: 8 }, async (_, n) => {
      while (!over) await writeDurably(join(dir, `f${n}`), 'x')
    })
    for (let round = 0; round < 150; round += 1) expect(await sweepTemporaries(dir)).toEqual([])
    over = true
    await Promise.all(writing)
  })

  test('leaves what is younger than the given age, for folders that others write to', async () => {
    for (const [name, hours] of [
      ['.x.1.1.tmp', 1],
      ['.x.1.2.tmp', 30],
    ] as const) {
      writeFileSync(join(dir, name), '')
      age(join(dir, name), hours)
    }
    expect(await sweepTemporaries(dir, 24 * 3_600_000)).toEqual([join(dir, '.x.1.2.tmp')])
  })
})

// Fault injection needs strace and the right to trace; where they are missing there is nothing to run.
const strace = spawnSync('strace', ['-f', '-o', '/dev/null', 'true']).status === 0
const module = new URL('../../src/core/durable.ts', import.meta.url).href

function underFault(
  inject: string,
  target: string,
): { readonly status: number | null; readonly signal: string | null; readonly out: string; readonly calls: string } {
  const code = `const { writeDurably } = await import(${JSON.stringify(module)})
    try { await writeDurably(process.argv[1], 'new'); console.log('written') } catch (error) { console.log(error.code) }`
  const log = join(dir, 'strace.log')
  const traced = ['-f', '-o', log, '-e', 'trace=fsync,rename', '-e', `inject=${inject}`]
  const run = spawnSync('strace', [...traced, process.execPath, '--input-type=module', '-e', code, target], {
    encoding: 'utf8',
    // strace counts the calls of each thread by themselves.
    env: { ...process.env, UV_THREADPOOL_SIZE: '1' },
  })
  return { status: run.status, signal: run.signal, out: run.stdout.trim(), calls: readFileSync(log, 'utf8') }
}

if (strace)
  describe('under injected faults', () => {
    test('EIO from fsync is LOCAL_IO, leaves the old content, and is not retried', () => {
      writeFileSync(join(dir, 'x'), 'old')
      const { out, calls } = underFault('fsync:error=EIO:when=1', join(dir, 'x'))
      expect(out).toBe('LOCAL_IO')
      expect(calls.match(/fsync\(/g)).toHaveLength(1)
      expect(readFileSync(join(dir, 'x'), 'utf8')).toBe('old')
    })

    test.each([
      ['before the first fsync', 'fsync:signal=KILL:when=1', 'old'],
      ['before the rename', 'rename:signal=KILL:when=1', 'old'],
      ['before the sync of the folder', 'fsync:signal=KILL:when=2', 'new'],
    ])('kill -9 %s leaves whole content', (_when, inject, expected) => {
      writeFileSync(join(dir, 'x'), 'old')
      const { out } = underFault(inject, join(dir, 'x'))
      expect(out).toBe('')
      expect(readFileSync(join(dir, 'x'), 'utf8')).toBe(expected)
    })
  })
