import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { BucketPlace } from '../../../src/clients/s3/bucket.ts'
import { S3_KEYS } from '../../harness/servers/core/s3.ts'

interface Answer {
  readonly text: string
  readonly tag: string
}

const whole = (text: string): Answer => ({ text, tag: `"${createHash('md5').update(text).digest('hex')}"` })
const ends: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
})

/** On a server that gives one answer after the other, the last of them again and again. */
async function placeOf(answers: readonly Answer[]): Promise<BucketPlace> {
  let asked = 0
  const server = createServer((_, response) => {
    const { text, tag } = answers[Math.min(asked, answers.length - 1)] as Answer
    asked += 1
    response.setHeader('etag', tag).end(text)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const options = {
    ...{
      bucket: 'b',
      endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      create: 'never' as const,
    },
    ...{ access_key_id: S3_KEYS.accessKeyId, secret_access_key: S3_KEYS.secretAccessKey },
    ...{ tls: {}, connect_timeout: 1000, timeout: 1000, part_size: 5 << 20 },
  }
  const place = new BucketPlace(options, '/')
  ends.push(async () => {
    await place.close()
    await new Promise((resolve) => server.close(resolve))
  })
  return place
}

const [before, after] = [whole('before'), whole('after')]
const torn = { text: 'before', tag: after.tag }

test.each([
  ['is taken as it is', [before, after], before],
  ['is asked for again where its text is of one version and its ETag of another', [torn, after], after],
  [
    'is what a server that encrypts gives twice',
    [{ text: 'before', tag: '"0123"' }],
    { text: 'before', tag: '"0123"' },
  ],
] as const)('a document %s', async (_, answers, { text, tag }) => {
  expect(await (await placeOf(answers)).read('key')).toEqual({ text, version: tag })
})

test('a document that is another one each time is left to the next attempt', async () => {
  const answers = Array.from({ length: 20 }, (_, index) => ({ text: 'before', tag: `"${index}"` }))
  await expect((await placeOf(answers)).read('key')).rejects.toMatchObject({
    code: 'STORE_UNAVAILABLE',
    retryable: true,
  })
})
