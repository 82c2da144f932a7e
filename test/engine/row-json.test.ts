import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rowJson } from '../../src/engine/row-json.ts'
import { Engine, type Session } from '../../src/engine/session.ts'
import { makeFolder } from '../harness/servers/core/folder.ts'

describe('a row as JSON', () => {
  const folder = makeFolder('row-json')
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

  it.each([
    ["9007199254740993::BIGINT AS a, NULL::VARCHAR AS b, '' AS c", '{"a":9007199254740993,"b":null,"c":""}'],
    ["'0.123456789012345678'::DECIMAL(38,18) AS a", '{"a":"0.123456789012345678"}'],
    ['1.25::DECIMAL(9,2) AS a, [1.25::DECIMAL(9,2)] AS b', '{"a":1.25,"b":[1.25]}'],
    ["'nan'::DOUBLE AS a, '-inf'::FLOAT AS b, 0.1::DOUBLE AS c", '{"a":"nan","b":"-inf","c":0.1}'],
    [
      `'{"n": 12345678901234567890.123456789}'::JSON AS a, {'x': NULL::INTEGER} AS "q""uoted", NULL::JSON AS c`,
      '{"a":{"n": 12345678901234567890.123456789},"q\\"uoted":{"x":null},"c":null}',
    ],
  ])('%s', async (select, json) => {
    const columns = await session.describe(`SELECT ${select}`)
    expect(await session.rows(`SELECT ${rowJson(columns)} AS json FROM (SELECT ${select})`)).toEqual([{ json }])
  })
})
