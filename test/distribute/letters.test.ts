import { appendFileSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { type DeadLetter, Letters } from '../../src/distribute/letters.ts'

let folder: string
let path: string

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-letters-'))
  path = join(folder, 'letters.ndjson')
})

afterEach(() => rmSync(folder, { recursive: true, force: true }))

function letter(id: string, body = `{"name":"Müller 😀 ${id}"}`): DeadLetter {
  const times = { first_at: '2026-03-01T12:00:00.000Z', last_at: '2026-03-01T12:05:00.000Z' }
  const about = { consumer: 'hook', token: 't', keys: ['k'], reason: 'no', attempts: 3, rows: 1 }
  return { id, index: 7, body, attributes: { 'content-type': 'application/json' }, ...about, ...times }
}

it('keeps letters whole, and finds each by its id', async () => {
  const letters = await Letters.open(path)
  await Promise.all(['a', 'b', 'c'].map((id) => letters.bury(letter(id))))
  await letters.close()
  const read = await Letters.read(path)
  expect(read.all.map(({ id, state }) => [id, state])).toEqual([
    ['a', 'dead'],
    ['b', 'dead'],
    ['c', 'dead'],
  ])
  expect(await read.letter('b')).toEqual(letter('b'))
  expect(await read.letter('d')).toBeUndefined()
})

it('folds what happened to a letter, in any later process', async () => {
  const letters = await Letters.open(path)
  for (const id of ['a', 'b', 'c', 'd']) await letters.bury(letter(id))
  await letters.mark('queued', ['a', 'b', 'd'])
  await letters.mark('delivered', ['a'])
  await letters.mark('discarded', ['c'])
  await letters.bury({ ...letter('b'), attempts: 9 })
  await letters.close()
  const states = (await Letters.read(path)).all.map(({ id, state, attempts }) => [id, state, attempts])
  expect(states.sort()).toEqual([
    ['b', 'dead', 9],
    ['d', 'queued', 3],
  ])
})

it('counts no line that a kill has torn, and goes on behind the last whole one', async () => {
  const first = await Letters.open(path)
  await first.bury(letter('a'))
  await first.close()
  const whole = readFileSync(path)
  appendFileSync(path, JSON.stringify({ op: 'dead', letter: letter('b') }).slice(0, 40))
  expect((await Letters.read(path)).all.map(({ id }) => id)).toEqual(['a'])
  const again = await Letters.open(path)
  expect(readFileSync(path)).toEqual(whole)
  await again.bury(letter('c'))
  await again.close()
  expect((await Letters.read(path)).all.map(({ id }) => id)).toEqual(['a', 'c'])
})

it('gives the space of letters that are through back, and keeps the others as they are', async () => {
  const letters = await Letters.open(path)
  const large = 'x'.repeat(100_000)
  const ids = Array.from({ length: 60 }, (_, index) => `letter ${index}`)
  await Promise.all(ids.map((id) => letters.bury(letter(id, large))))
  await letters.mark('queued', ['letter 3'])
  await letters.mark('discarded', ids.slice(5))
  await letters.close()
  const before = statSync(path).size
  const again = await Letters.open(path)
  expect(again.all.map(({ id, state }) => `${id} ${state}`)).toEqual([
    'letter 0 dead',
    'letter 1 dead',
    'letter 2 dead',
    'letter 3 queued',
    'letter 4 dead',
  ])
  expect(await again.letter('letter 4')).toEqual(letter('letter 4', large))
  await again.close()
  expect(statSync(path).size).toBeLessThan(before / 10)
})
