import { Client } from '@opensearch-project/opensearch'
import { expect, it } from 'vitest'
import { freshIndexes } from './fresh.ts'
import { serverSuite } from './suite.ts'

await serverSuite('OpenSearch of the harness', ['opensearch'], ({ opensearch }) => {
  it('creates a document once, and forgets the indexes of a test', async () => {
    const client = new Client({ node: opensearch.url })
    const indexes = await freshIndexes(opensearch)
    const index = `${indexes.name}-a`
    const create = { create: { _index: index, _id: '1' } }
    try {
      const answer = await client.bulk({ body: [create, { n: 1 }, create, { n: 2 }], refresh: true })
      expect(answer.body.items.map((item) => item.create?.status)).toEqual([201, 409])
      expect((await client.count({ index })).body.count).toBe(1)
      await indexes.remove()
      expect((await client.indices.exists({ index })).body).toBe(false)
    } finally {
      await client.close()
    }
  })
})
