import { describe, expect, it } from 'vitest'
import { CATALOG, SERVER_NAMES } from '../catalog.ts'
import { fromEnvironment } from './instance.ts'

describe('a server from the environment', () => {
  it('is taken when its address is set, with the usual values for what is not', () => {
    const environment = { ADFLOW_TEST_S3_URL: 'http://s3', ADFLOW_TEST_S3_ACCESS_KEY_ID: 'me' }
    expect(fromEnvironment(CATALOG.s3, environment)).toEqual({
      url: 'http://s3',
      accessKeyId: 'me',
      secretAccessKey: 'adflow-secret',
      region: 'us-east-1',
    })
  })

  it('is not taken without its address', () => {
    expect(fromEnvironment(CATALOG.s3, { ADFLOW_TEST_S3_ACCESS_KEY_ID: 'me' })).toBeUndefined()
    expect(fromEnvironment(CATALOG.redis, { ADFLOW_TEST_REDIS_URL: '' })).toBeUndefined()
  })

  it('has variables that no other kind has', () => {
    const variables = SERVER_NAMES.flatMap((name) => Object.values<string>(CATALOG[name].variables))
    expect(variables.filter((name) => !/^ADFLOW_TEST_[A-Z0-9_]+$/.test(name))).toEqual([])
    expect(new Set(variables).size).toBe(variables.length)
  })
})

describe('a kind of server', () => {
  it('is called as its file and its place in the catalog', () => {
    expect(SERVER_NAMES.map((name) => CATALOG[name].name)).toEqual(SERVER_NAMES)
  })
})
