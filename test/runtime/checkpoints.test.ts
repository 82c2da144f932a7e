import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import {
  ASK_STORES,
  type Checkpoint,
  type CheckpointState,
  type Slot,
  sealSlot,
} from '../../src/runtime/checkpoint-slot.ts'
import { openCheckpoints, setAsideCheckpoints } from '../../src/runtime/checkpoints.ts'

let dir = ''
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'adflow-checkpoint-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const path = (slot: Slot) => join(dir, `checkpoint.${slot}`)
const state = (sequence: number, at = sequence * 100): CheckpointState => ({
  epoch: '0',
  sequence: String(sequence),
  sources: { ads: { 'file-1': { at: String(at), mark: 'ä', loaders: { warehouse: '0' } } } },
  planned: [
    {
      sequence: '1',
      source: 'ads',
      lane: 'file-1',
      from: '0',
      to: '100',
      clock: '2026-01-01T00:00:00.000Z',
      mark: 'm',
    },
  ],
})

/** Saves n times; generation n is then in slot a (n odd) or b (n even). */
async function saved(n: number) {
  const checkpoints = await openCheckpoints(dir, 'ads')
  for (let i = 1; i <= n; i += 1) await checkpoints.save(state(i))
  return checkpoints
}

test('a new folder is fresh, and what is saved is read back', async () => {
  const first = await openCheckpoints(dir, 'ads', { now: () => new Date(0) })
  expect(first.fresh).toBe(true)
  expect(first.current).toMatchObject({ generation: '0', epoch: '0', sequence: '1', sources: {}, planned: [] })
  await first.save({ ...state(5), evolved: { os: 'VARCHAR' }, extra: { ledger: { seq: 3 } } })
  const second = await openCheckpoints(dir, 'ads')
  expect(second.fresh).toBe(false)
  expect(second.fallback).toBeUndefined()
  expect(second.current).toEqual({
    ...state(5),
    format: 1,
    job: 'ads',
    generation: '1',
    saved_at: '1970-01-01T00:00:00.000Z',
    previous: '0'.repeat(64),
    evolved: { os: 'VARCHAR' },
    extra: { ledger: { seq: 3 } },
  })
})

test('saves alternate between the slots and form a chain; no other file stays', async () => {
  await saved(3)
  const read = (slot: Slot): Checkpoint => JSON.parse(readFileSync(path(slot), 'utf8').split('\n')[0] ?? '')
  expect([read('b').generation, read('a').generation]).toEqual(['2', '3'])
  expect(readFileSync(path('b'), 'utf8')).toContain(`\nsha256:${read('a').previous}\n`)
  expect(readdirSync(dir).sort()).toEqual(['checkpoint.a', 'checkpoint.b'])
})

test('the snapshot cannot be changed, and does not follow later changes of what was saved', async () => {
  const checkpoints = await openCheckpoints(dir, 'ads')
  const planned = [...state(2).planned]
  await checkpoints.save({ ...state(2), planned })
  planned.length = 0
  expect(checkpoints.current.planned).toHaveLength(1)
  expect(() => Object.assign(checkpoints.current.sources['ads'] ?? {}, { x: 1 })).toThrow(TypeError)
})

test.each(['epoch', 'sequence'] as const)('%s never falls', async (field) => {
  const checkpoints = await openCheckpoints(dir, 'ads')
  await checkpoints.save({ ...state(10), epoch: '10' })
  await expect(checkpoints.save({ ...state(10), epoch: '10', [field]: '9' })).rejects.toThrow(/would fall from 10 to 9/)
  await checkpoints.save({ ...state(10), epoch: '10' })
})

test('two saves at once are refused', async () => {
  const checkpoints = await openCheckpoints(dir, 'ads')
  const first = checkpoints.save(state(1))
  await expect(checkpoints.save(state(2))).rejects.toThrow(/another save/)
  await first
})

test('after a failed save every later one gets the same error', async () => {
  const checkpoints = await saved(1)
  rmSync(dir, { recursive: true })
  await expect(checkpoints.save(state(2))).rejects.toMatchObject({ code: 'LOCAL_IO' })
  mkdirSync(dir)
  await expect(checkpoints.save(state(2))).rejects.toMatchObject({ code: 'LOCAL_IO' })
  expect(readdirSync(dir)).toEqual([])
})

describe('damage to the newest slot falls back one generation and says so', () => {
  const expectFallback = async () => {
    const { current, fallback } = await openCheckpoints(dir, 'ads')
    if (current.generation !== '2' || fallback?.slot !== 'a')
      throw new Error(`generation ${current.generation} was used`)
    return fallback.reason
  }

  test('each byte flipped in turn', async () => {
    await saved(3)
    const good = readFileSync(path('a'))
    for (let i = 0; i < good.length; i += 1) {
      const bad = Buffer.from(good)
      bad.writeUInt8(bad.readUInt8(i) ^ (1 << (i % 8)), i)
      writeFileSync(path('a'), bad)
      await expectFallback()
    }
    writeFileSync(path('a'), good)
    expect((await openCheckpoints(dir, 'ads')).current.generation).toBe('3')
  })

  test('cut off at each length', async () => {
    await saved(3)
    const good = readFileSync(path('a'))
    for (let length = 0; length < good.length; length += 1) {
      writeFileSync(path('a'), good.subarray(0, length))
      await expectFallback()
    }
  })

  const body = JSON.stringify({ format: 1, job: 'ads' })
  test.each([
    ['empty', '', /empty/],
    ['garbage', Buffer.alloc(5000, 0xa5), /checksum line/],
    ['zeros', Buffer.alloc(4096), /checksum line/],
    ['one byte too many', `${sealSlot('{}').text}\n`, /checksum line/],
    ['sealed but not JSON', sealSlot('{"format":1').text, /not JSON/],
    ['sealed but not a checkpoint', sealSlot('null').text, /field format/],
    ['sealed but incomplete', sealSlot(body).text, /field generation/],
  ])('%s', async (_what, content, reason) => {
    await saved(3)
    writeFileSync(path('a'), content)
    expect(await expectFallback()).toMatch(reason)
  })

  test('a folder in its place', async () => {
    await saved(3)
    rmSync(path('a'))
    mkdirSync(path('a'))
    expect(await expectFallback()).toBe('EISDIR')
  })

  test('deleted', async () => {
    await saved(3)
    rmSync(path('a'))
    expect(await expectFallback()).toBe('it is missing')
  })
})

test('after a fallback every save carries on that the stores must be asked, until a run has done so', async () => {
  await saved(3)
  writeFileSync(path('a'), 'garbage')
  const { extra } = (await openCheckpoints(dir, 'ads')).current
  expect(extra).toEqual({ [ASK_STORES]: true })
  await (await openCheckpoints(dir, 'ads')).save({ ...state(4), ...(extra === undefined ? {} : { extra }) })
  const healed = await openCheckpoints(dir, 'ads')
  expect([healed.fallback, healed.current.extra]).toEqual([undefined, { [ASK_STORES]: true }])
  await healed.save(state(5))
  expect((await openCheckpoints(dir, 'ads')).current.extra).toBeUndefined()
})

test('after a fallback the sound slot is not touched by the next save, and no generation is issued twice', async () => {
  await saved(3)
  writeFileSync(path('a'), 'garbage')
  const sound = readFileSync(path('b'))
  const fallen = await openCheckpoints(dir, 'ads')
  await fallen.save(state(7))
  expect(readFileSync(path('b'))).toEqual(sound)
  const again = await openCheckpoints(dir, 'ads')
  expect(again.fallback).toBeUndefined()
  expect(again.current).toMatchObject({ generation: '4', sequence: '7' })
})

test('damage to the older slot is reported too, and the newest is used', async () => {
  await saved(3)
  writeFileSync(path('b'), 'garbage')
  const { current, fallback } = await openCheckpoints(dir, 'ads')
  expect(current.generation).toBe('3')
  expect(fallback).toMatchObject({ slot: 'b', generation: '3' })
})

test('an older slot put back from a backup is reported, and the newest is used', async () => {
  const checkpoints = await saved(2)
  const backup = readFileSync(path('b'))
  for (const sequence of [3, 4, 5, 6]) await checkpoints.save(state(sequence))
  writeFileSync(path('b'), backup)
  const { current, fallback } = await openCheckpoints(dir, 'ads')
  expect(current.generation).toBe('5')
  expect(fallback).toMatchObject({ slot: 'b', reason: expect.stringContaining('put back from elsewhere') })
})

describe('never starts at zero in silence', () => {
  const expectDamaged = async () => {
    const before = readdirSync(dir).map((name) => readFileSync(join(dir, name), 'hex'))
    await expect(openCheckpoints(dir, 'ads')).rejects.toMatchObject({
      code: 'STATE_DAMAGED',
      exit: 78,
      hint: expect.stringContaining('adflow recover'),
    })
    expect(readdirSync(dir).map((name) => readFileSync(join(dir, name), 'hex'))).toEqual(before)
  }

  test('both slots damaged', async () => {
    await saved(3)
    writeFileSync(path('a'), 'x')
    writeFileSync(path('b'), '')
    await expectDamaged()
  })

  test('the only slot damaged', async () => {
    await saved(1)
    writeFileSync(path('a'), readFileSync(path('a')).subarray(1))
    await expectDamaged()
  })

  test('two different checkpoints of one generation', async () => {
    await saved(3)
    const other = { ...JSON.parse(readFileSync(path('a'), 'utf8').split('\n')[0] ?? ''), sequence: '99' }
    writeFileSync(path('b'), sealSlot(JSON.stringify(other)).text)
    await expectDamaged()
  })

  test('the checkpoint of another job', async () => {
    await saved(2)
    await expect(openCheckpoints(dir, 'clicks')).rejects.toMatchObject({
      code: 'STATE_DAMAGED',
      message: expect.stringContaining('belongs to job ads'),
    })
  })
})

test.each(['a', 'b'] as const)('a newer format in slot %s is STATE_NEWER and stays untouched', async (slot) => {
  await saved(3)
  const newer = sealSlot(JSON.stringify({ format: 99, whatever: true })).text
  writeFileSync(path(slot), newer)
  await expect(openCheckpoints(dir, 'ads')).rejects.toMatchObject({ code: 'STATE_NEWER', exit: 78 })
  expect(readFileSync(path(slot), 'utf8')).toBe(newer)
})

test('left over temporary files of a crash do not matter', async () => {
  writeFileSync(join(dir, '.checkpoint.a.4711.1.tmp'), '{"format":1,"jo')
  expect((await openCheckpoints(dir, 'ads')).fresh).toBe(true)
  await saved(2)
  expect((await openCheckpoints(dir, 'ads')).current.generation).toBe('2')
})

test('recover sets damaged slots aside and counts on from a known generation', async () => {
  await saved(3)
  writeFileSync(path('a'), 'x')
  const aside = await setAsideCheckpoints(dir, new Date(5))
  expect(aside).toEqual([`${path('a')}.aside.5`, `${path('b')}.aside.5`])
  const fresh = await openCheckpoints(dir, 'ads', { after: '41' })
  expect(fresh.fresh).toBe(true)
  await fresh.save(state(9))
  const reopened = await openCheckpoints(dir, 'ads')
  expect(reopened.fallback).toBeUndefined()
  expect(reopened.current.generation).toBe('42')
})

test('agrees with a model under any sequence of saves, reopenings and damage', async () => {
  const action = fc.oneof(
    { weight: 4, arbitrary: fc.record({ do: fc.constant('save' as const), at: fc.nat() }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('reopen' as const) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('damage' as const), byte: fc.nat() }) },
  )
  await fc.assert(
    fc.asyncProperty(fc.array(action, { maxLength: 25 }), async (actions) => {
      for (const slot of ['a', 'b'] as const) rmSync(path(slot), { force: true })
      let checkpoints = await openCheckpoints(dir, 'ads')
      const history: { slot: Slot; at: number; generation: bigint }[] = []
      let sequence = 1
      for (const step of actions) {
        if (step.do === 'save') {
          sequence += 1
          await checkpoints.save(state(sequence, step.at))
          const slot = history.at(-1)?.slot === 'a' ? 'b' : 'a'
          history.push({ slot, at: step.at, generation: BigInt(checkpoints.current.generation) })
        } else if (step.do === 'reopen') {
          checkpoints = await openCheckpoints(dir, 'ads')
          expect(checkpoints.fallback).toBeUndefined()
        } else if (history.length >= 2) {
          const lost = history.pop()
          if (lost === undefined) continue
          const bytes = readFileSync(path(lost.slot))
          // Damage to the number itself hides it: everywhere else it is read from the damaged slot.
          const number = bytes.indexOf('"generation"')
          const end = bytes.indexOf(',', number)
          const wanted = step.byte % bytes.length
          const at = wanted >= number && wanted < end ? 0 : wanted
          bytes.writeUInt8(bytes.readUInt8(at) ^ 1, at)
          writeFileSync(path(lost.slot), bytes)
          checkpoints = await openCheckpoints(dir, 'ads')
          expect(checkpoints.fallback?.slot).toBe(lost.slot)
          sequence = Number(checkpoints.current.sequence)
          await checkpoints.save(state(sequence, step.byte))
          history.splice(0, history.length, ...history.slice(-1))
          history.push({ slot: lost.slot, at: step.byte, generation: BigInt(checkpoints.current.generation) })
          expect(checkpoints.current.generation).toBe(String(lost.generation + 1n))
        }
        const newest = history.at(-1)
        expect(checkpoints.current.generation).toBe(String(newest?.generation ?? 0n))
        if (newest) expect(checkpoints.current.sources['ads']?.['file-1']?.at).toBe(String(newest.at))
      }
    }),
    { numRuns: 25 },
  )
})

test('killed with -9 at 30 random instants: readable each time, and nothing acknowledged is lost', async () => {
  const url = (file: string) => JSON.stringify(new URL(`../../src/runtime/${file}`, import.meta.url).href)
  const code = `const { openCheckpoints } = await import(${url('checkpoints.ts')})
    const checkpoints = await openCheckpoints(process.argv[1], 'ads')
    for (;;) {
      const { epoch, sequence, sources, planned } = checkpoints.current
      const next = String(BigInt(sequence) + 1n)
      await checkpoints.save({ epoch, sources: { ads: { l: { at: next, mark: 'x'.repeat(20000) } } }, planned, sequence: next })
      process.stdout.write(next + '\\n')
    }`
  let acknowledged = 1n
  for (let round = 0; round < 30; round += 1) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', code, dir], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const exited = once(child, 'exit')
    const until = acknowledged + BigInt(1 + Math.floor(Math.random() * 12))
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged = BigInt(line)
      if (acknowledged >= until) child.kill('SIGKILL')
    }
    await exited
    const { current, fallback } = await openCheckpoints(dir, 'ads')
    expect(fallback).toBeUndefined()
    expect(BigInt(current.sequence) - acknowledged, `after ${acknowledged}`).toBeOneOf([0n, 1n])
    expect(current.sources['ads']?.['l']?.at).toBe(current.sequence)
    acknowledged = BigInt(current.sequence)
  }
})
