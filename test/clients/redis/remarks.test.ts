import { afterAll, beforeAll, expect, it } from 'vitest'
import type { Column } from '../../../src/core/contracts.ts'
import type { LoaderRemark } from '../../../src/core/loader-check.ts'
import { createAnalysis } from '../../../src/engine/analysis.ts'
import { Engine } from '../../../src/engine/session.ts'
import redis from '../../../src/loaders/redis.ts'
import { newFolder, removeFolder } from '../../harness/loader.ts'

const COLUMNS: readonly Column[] = Object.entries({
  id: 'BIGINT',
  spend: 'DECIMAL(18,6)',
  ratio: 'DOUBLE',
  seen: 'TIMESTAMP',
  tags: 'VARCHAR[]',
  raw: 'BLOB',
}).map(([name, type]) => ({ name, type, from: [name] }))

const folder = newFolder()
let engine: Engine
beforeAll(async () => {
  engine = await Engine.open({ memoryBytes: 1e8, threads: 1, tempFolder: folder })
})
afterAll(() => {
  engine.close()
  removeFolder(folder)
})

async function remarks(options: Readonly<Record<string, unknown>>): Promise<readonly LoaderRemark[]> {
  const session = await engine.connect()
  try {
    const parsed = redis.options.parse({ url: 'redis://127.0.0.1', key: 'id', ...options })
    const env = { path: ['load', 'out'], columns: COLUMNS, analysis: await createAnalysis(session) }
    return (await redis.check?.(parsed, env)) ?? []
  } finally {
    session.close()
  }
}

it.for([
  [{}, []],
  [{ as: 'counter', increment: '1' }, []],
  [{ as: 'counter', increments: { n: 'id', s: { of: 'spend', scale: 6 } } }, []],
  [{ as: 'sorted_set', member: 'id', score: 'epoch(seen)' }, []],
] as const)('has nothing to say of %j', async ([options, expected]) => {
  expect(await remarks(options)).toEqual(expected)
})

it.for([
  [{ key: 'tags' }, 'mistake', 'to_json(tags)'],
  [{ as: 'string', value: 'raw' }, 'mistake', 'hex(raw)'],
  [{ fields: ['idd'] }, 'mistake', 'id'],
  [{ as: 'counter', increment: 'ratio' }, 'mistake', 'DECIMAL'],
  [{ as: 'counter', increment: 'spend' }, 'mistake', '{ of: "spend", scale: 6 }'],
  [{ as: 'counter', increments: { s: { of: 'spend', scale: 2 } } }, 'warning', 'round(spend, 2)'],
  [{ as: 'sorted_set', member: 'id', score: 'id' }, 'warning', 'DOUBLE'],
  [{ as: 'sorted_set', member: 'id', score: 'seen' }, 'mistake', 'epoch_ms'],
  [{ url: 'redis://far.example', tls: { mode: 'off' } }, 'warning', 'tls.mode'],
] as const)('says of %j that it is a %s, and how to mend it', async ([options, kind, hint]) => {
  expect(await remarks(options)).toMatchObject([{ kind, hint: expect.stringContaining(hint) }])
})

it('says where an expression does not fit', async () => {
  await expect(remarks({ key: 'nobody' })).rejects.toMatchObject({ details: { path: ['load', 'out', 'key'] } })
  await expect(remarks({ key: 'random()' })).rejects.toMatchObject({ code: 'SQL_INVALID' })
})

it.for([
  [{ as: 'sorted_set', member: 'id' }, '`as: sorted_set` needs a `score`'],
  [{ as: 'counter' }, '`as: counter` needs either `increment` or `increments`'],
  [{ as: 'counter', increment: '1', increments: { n: '1' } }, '`as: counter` needs either `increment` or `increments`'],
  [{ value: 'id' }, '`value` is not for `as: hash`'],
  [{ topology: 'sentinel' }, '`topology: sentinel` needs a `master`'],
  [{ master: 'ads' }, '`master` is only for `topology: sentinel`'],
  [{ prefix: 'a{b' }, 'braces in a prefix stand for a whole hash tag: `{ads}:`'],
] as const)('refuses %j', ([options, message]) => {
  const parsed = redis.options.safeParse({ url: 'redis://127.0.0.1', key: 'id', ...options })
  expect(parsed.error?.issues.map((issue) => issue.message)).toEqual([message])
})

it.for(['', 'ads:', '{ads}:', 'a:{b}:c'])('takes the prefix %j', (prefix) => {
  expect(redis.options.safeParse({ url: 'redis://127.0.0.1', key: 'id', prefix }).error).toBeUndefined()
})
