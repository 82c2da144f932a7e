import { afterEach, beforeEach, expect, it } from 'vitest'
import elasticsearch from '../../../src/loaders/elasticsearch.ts'
import { type DiagnosisOptions, diagnosed, statuses } from '../../harness/diagnosis.ts'
import { httpProxy } from '../../harness/http-proxy.ts'
import { call } from '../../harness/opensearch.ts'
import { makeCertificate } from '../../harness/servers/core/certificates.ts'
import { makeFolder } from '../../harness/servers/core/folder.ts'
import { type Fresh, freshIndexes } from '../../harness/servers/fresh.ts'
import { serverSuite } from '../../harness/servers/suite.ts'

const COLUMNS = [
  { name: 'id', type: 'BIGINT', from: ['id'] },
  { name: 'name', type: 'VARCHAR', from: ['name'] },
]

await serverSuite('the diagnosis of Elasticsearch and OpenSearch', ['opensearch'], ({ opensearch: server }) => {
  let indexes: Fresh
  let index: string
  beforeEach(async () => {
    indexes = await freshIndexes(server)
    index = `${indexes.name}-events`
  })
  afterEach(() => indexes.remove())

  const asked = (options: Readonly<Record<string, unknown>> = {}, env: DiagnosisOptions = {}) =>
    diagnosed(
      elasticsearch,
      { url: server.url, index, batches: `${indexes.name}-batches`, ...options },
      { columns: COLUMNS, ...env },
    )
  const found = async (check: string, ...options: Parameters<typeof asked>) =>
    (await asked(...options)).find((finding) => finding.check === check)

  it('finds a healthy server well, says what would be made, and makes nothing', async () => {
    const findings = await asked()
    expect(statuses(findings)).toMatchObject({
      reachable: 'ok',
      version: 'ok',
      tls: 'ok',
      target: 'ok',
      permission: 'ok',
      durability: 'ok',
      clock: 'ok',
    })
    expect(findings.map(({ check }) => check)).toContain('disk')
    expect(findings.find(({ check }) => check === 'target')?.found).toBe(
      `would be made: index ${index}, index ${indexes.name}-batches`,
    )
    expect(JSON.parse(await call(server.url, 'GET', `${indexes.name}*?expand_wildcards=all`))).toEqual({})
  })

  it('finds an index that is there: what it lacks, what does not fit, what blocks it', async () => {
    await call(server.url, 'PUT', index, { mappings: { properties: { id: { type: 'long' } } } })
    expect(await found('target')).toMatchObject({
      status: 'ok',
      found: expect.stringContaining('field name, field _batch'),
    })
    expect(await found('target', { evolve: false })).toMatchObject({ status: 'failed', code: 'STORE_MISMATCH' })
    await call(server.url, 'PUT', `${index}/_settings`, { 'index.blocks.read_only_allow_delete': true })
    expect(await found('writable')).toMatchObject({ status: 'failed', mend: expect.stringContaining('disk') })
    await call(server.url, 'PUT', `${index}/_settings`, { 'index.blocks.read_only_allow_delete': null })
    expect(await found('writable')).toMatchObject({ status: 'ok' })
    expect(await found('target', { index: `${index}-2`, create: 'never' })).toMatchObject({ code: 'STORE_MISMATCH' })
  })

  it('finds an index that acknowledges what is not on disk', async () => {
    await call(server.url, 'PUT', index, { settings: { 'index.translog.durability': 'async' } })
    expect(await found('target')).toMatchObject({ status: 'failed', found: expect.stringContaining('async') })
  })

  it('asks Elasticsearch for the privileges of the user, and names those that are missing', async () => {
    let granted = false
    const asking: unknown[] = []
    await using proxy = await httpProxy(server.url, {
      async answer({ path, body }, pass) {
        if (path !== '/_security/user/_has_privileges') return pass()
        asking.push(JSON.parse(String(body)))
        const index_ = { [index]: { read: true, create_doc: granted } }
        return { status: 200, body: JSON.stringify({ has_all_requested: granted, index: index_ }) }
      },
    })
    expect(await found('permission', { url: proxy.url })).toMatchObject({
      status: 'failed',
      code: 'STORE_DENIED',
      found: `the user lacks create_doc on ${index}`,
    })
    expect(asking).toMatchObject([{ index: [{ names: [index] }, { names: [`${indexes.name}-batches`] }] }])
    granted = true
    expect(await found('permission', { url: proxy.url })).toMatchObject({ status: 'ok' })
  })

  it('finds a clock that is wrong, a certificate that ends soon, and a server that is not there', async () => {
    expect(await found('clock', {}, { now: () => Date.now() + 3_600_000 })).toMatchObject({ status: 'warning' })
    const files = makeFolder('certificates')
    const certificate = await makeCertificate(files)
    await using proxy = await httpProxy(server.url, { certificate })
    expect(await found('tls', { url: proxy.url, tls: { ca: certificate.authorityFile } })).toMatchObject({
      status: 'warning',
      found: expect.stringMatching(/^TLSv1\.3, and the certificate of the server ends in/),
    })
    expect(await asked({ url: proxy.url })).toMatchObject([{ check: 'reachable', code: 'STORE_DENIED' }])
    expect(await asked({ url: 'http://127.0.0.1:1' })).toMatchObject([
      { check: 'reachable', status: 'failed', code: 'STORE_UNAVAILABLE' },
    ])
    files.remove()
  })
})
