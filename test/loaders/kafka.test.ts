import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LoaderRemark } from '../../src/core/loader-check.ts'
import { createAnalysis } from '../../src/engine/analysis.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import kafka from '../../src/loaders/kafka.ts'
import { makeFolder } from '../harness/servers/core/folder.ts'

const OPTIONS = { brokers: '127.0.0.1:9092', topic: 'events' }
const column = (name: string, type: string) => ({ name, type, from: [name] })

describe('the loader of Kafka, before a run', () => {
  const folder = makeFolder('kafka-remarks')
  let engine: Engine
  let session: Session
  beforeAll(async () => {
    engine = await Engine.open({
      ...{ memoryBytes: 200_000_000, threads: 1, tempFolder: folder.path, folders: [], attach: [] },
    })
    session = await engine.connect()
  })
  afterAll(() => {
    session.close()
    engine.close()
    folder.remove()
  })

  const remarks = async (options: Readonly<Record<string, unknown>>, columns = [column('id', 'BIGINT')]) =>
    (await kafka.check?.(kafka.options.parse({ ...OPTIONS, ...options }), {
      ...{ path: ['load', 'store'], columns, analysis: await createAnalysis(session) },
    })) as readonly LoaderRemark[]

  it('has nothing to say of what JSON holds', async () => {
    expect(await remarks({ key: 'id', headers: { id: 'id' }, timestamp: 'id' })).toEqual([])
  })

  it.each([
    ['DECIMAL(38,18)', 'it is written as VARCHAR'],
    ['BLOB', 'it is written as text'],
    ['INTERVAL', 'it is written as text'],
    ['STRUCT(x DOUBLE)', 'may hold NaN or infinity'],
  ])('says what becomes of %s, unless the value is made otherwise', async (type, message) => {
    const columns = [column('id', 'BIGINT'), column('odd', type)]
    expect(await remarks({}, columns)).toMatchObject([
      { kind: 'warning', message: expect.stringContaining(message), hint: expect.any(String) },
    ])
    expect(await remarks({ value: 'id' }, columns)).toEqual([])
  })

  it('refuses expressions that do not fit, at their place', async () => {
    const columns = [column('name', 'VARCHAR'), column('id', 'BIGINT')]
    expect(await remarks({ timestamp: 'name' }, columns)).toMatchObject([
      { kind: 'mistake', path: ['load', 'store', 'timestamp'] },
    ])
    expect(await remarks({ cloudevents: { type: 'x', time: 'id' } }, columns)).toMatchObject([
      { kind: 'mistake', path: ['load', 'store', 'cloudevents', 'time'] },
    ])
    await expect(remarks({ headers: { kind: 'nmae' } }, columns)).rejects.toMatchObject({ code: 'SQL_INVALID' })
  })

  it('warns of a connection that anybody can read', async () => {
    const away = { brokers: 'kafka-1:9092,[::1]:9092', tls: { mode: 'off' } }
    const sasl = { mechanism: 'plain', username: 'a', password: 'b' }
    expect(await remarks({ ...away, sasl })).toMatchObject([
      { kind: 'warning', message: expect.stringMatching(/kafka-1 is not encrypted.*shows the password/) },
    ])
    expect(await remarks({ brokers: 'kafka-1:9092' })).toEqual([])
  })

  it.each([
    { brokers: 'kafka-1' },
    { brokers: 'kafka-1:9092,' },
    { topic: '_adflow_batches.events' },
    { topic: 'a/b' },
    { cloudevents: { type: 'x' }, headers: { ce_id: 'id' } },
  ])('takes no %j', (options) => {
    expect(kafka.options.safeParse({ ...OPTIONS, ...options }).success).toBe(false)
  })
})
