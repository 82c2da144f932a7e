import kafkajs from 'kafkajs'
import { afterAll, beforeAll, expect, it } from 'vitest'
import source from '../../../src/extractors/kafka.ts'
import kafka from '../../../src/loaders/kafka.ts'
import { diagnosed, statuses } from '../../harness/diagnosis.ts'
import { kafkaClient } from '../../harness/kafka-reader.ts'
import { createTopic } from '../../harness/kafka-topic.ts'
import { makeCertificate } from '../../harness/servers/core/certificates.ts'
import { makeFolder } from '../../harness/servers/core/folder.ts'
import { freshName } from '../../harness/servers/fresh.ts'
import { startPrivate } from '../../harness/servers/private.ts'
import { serverSuite } from '../../harness/servers/suite.ts'

type Options = Readonly<Record<string, unknown>>

const LATER = { timeout: 15_000 }

await serverSuite('the diagnosis of Kafka', ['kafka'], ({ kafka: { brokers } }) => {
  const asked = (options: Options) => diagnosed(kafka, { brokers, ...options })
  const askedToRead = (options: Options) => diagnosed(source, { brokers, ...options })
  const admin = async <T>(work: (own: kafkajs.Admin) => Promise<T>, at = brokers): Promise<T> => {
    const own = kafkaClient(at).admin()
    await own.connect()
    try {
      return await work(own)
    } finally {
      await own.disconnect()
    }
  }
  const create = (topic: string, policy: string, at = brokers) =>
    admin((own) => createTopic(own, { topic, configEntries: [{ name: 'cleanup.policy', value: policy }] }), at)

  it('finds a healthy cluster well, says what would be made, and makes nothing', async () => {
    const topic = freshName('events')
    const findings = await asked({ topic })
    expect(statuses(findings)).toEqual({
      ...{ reachable: 'ok', version: 'ok', tls: 'ok', target: 'ok', permission: 'unknown' },
      disk: expect.stringMatching(/ok|warning|failed/),
    })
    expect(findings.find(({ check }) => check === 'target')?.found).toBe(
      `would be made: topic ${topic}, topic _adflow_batches.${topic}`,
    )
    expect(await admin((own) => own.listTopics())).not.toContain(topic)
  })

  it('finds topics that are there, that are missing under create: never, or that forget', async () => {
    const topic = freshName('events')
    expect((await asked({ topic, create: 'never' })).find(({ check }) => check === 'target')).toMatchObject({
      status: 'failed',
      code: 'STORE_MISMATCH',
      found: `the topic ${topic} does not exist`,
    })
    await create(topic, 'delete')
    await create(`_adflow_batches.${topic}`, 'compact')
    // The broker learns of them a moment later.
    await expect
      .poll(async () => statuses(await asked({ topic, create: 'never' })), LATER)
      .toMatchObject({ target: 'warning', permission: 'ok', durability: 'warning' })
    expect((await asked({ topic })).filter(({ check }) => check === 'target')).toMatchObject([
      { status: 'ok', found: 'the topics are there' },
      {
        status: 'warning',
        found: expect.stringContaining('segment.bytes=1073741824'),
        mend: expect.stringContaining(`--entity-name _adflow_batches.${topic} --add-config segment.bytes=8388608`),
      },
    ])
    expect((await asked({ topic, ledger_topic: topic })).find(({ check }) => check === 'target')).toMatchObject({
      status: 'failed',
      found: `the topic ${topic} has cleanup.policy=delete: it forgets batches`,
    })
  })

  it('names brokers that are not there', async () => {
    expect(await asked({ topic: 'events', brokers: '127.0.0.1:1' })).toMatchObject([
      { check: 'reachable', status: 'failed', code: 'STORE_UNAVAILABLE', place: '127.0.0.1:1/events' },
    ])
  })

  it('finds what a source can read, and says what it cannot', async () => {
    const topic = freshName('events')
    expect((await askedToRead({ topics: topic })).find(({ check }) => check === 'target')).toMatchObject({
      ...{ status: 'failed', code: 'SOURCE_MISSING', found: expect.stringContaining(topic) },
    })
    await create(topic, 'delete')
    await expect
      .poll(async () => statuses(await askedToRead({ topics: topic })), LATER)
      .toEqual({ reachable: 'ok', tls: 'ok', target: 'ok', permission: 'ok' })
    expect(await askedToRead({ topics: 'events', brokers: '127.0.0.1:1' })).toMatchObject([
      { check: 'reachable', status: 'failed', code: 'SOURCE_UNREADABLE', place: '127.0.0.1:1/events' },
    ])
  })

  const files = makeFolder('kafka-diagnosis')
  let own: Awaited<ReturnType<typeof startPrivate<'kafka'>>>
  let ca: string
  beforeAll(async () => {
    const tls = await makeCertificate(files)
    ca = tls.authorityFile
    own = await startPrivate('kafka', { secured: { tls, users: { alice: 'right' } } })
  }, 60_000)
  afterAll(async () => {
    await own.end()
    files.remove()
  })

  it('names a wrong password, a missing privilege and a certificate that ends soon', async () => {
    const secured = (password: string) => ({
      ...{ brokers: own.endpoint.secured, topic: 'events', tls: { mode: 'verify', ca } },
      sasl: { username: 'alice', password },
    })
    expect(statuses(await asked(secured('wrong')))).toEqual({ reachable: 'failed STORE_DENIED' })
    await create('events', 'delete', own.endpoint.brokers)
    await expect
      .poll(async () => statuses(await asked(secured('right'))), LATER)
      .toMatchObject({ tls: 'warning', permission: 'failed STORE_DENIED' })
    const { AclOperationTypes, AclPermissionTypes, AclResourceTypes, ResourcePatternTypes } = kafkajs
    await create('_adflow_batches.events', 'compact', own.endpoint.brokers)
    const common = { principal: 'User:alice', host: '*', permissionType: AclPermissionTypes.ALLOW }
    const { DESCRIBE, DESCRIBE_CONFIGS, WRITE } = AclOperationTypes
    await admin(
      (client) =>
        client.createAcls({
          acl: [DESCRIBE, DESCRIBE_CONFIGS, WRITE].map((operation) => ({
            ...{ ...common, resourceType: AclResourceTypes.TOPIC, operation },
            ...{ resourceName: '*', resourcePatternType: ResourcePatternTypes.LITERAL },
          })),
        }),
      own.endpoint.brokers,
    )
    const lacking = async () => (await asked(secured('right'))).find(({ check }) => check === 'permission')
    await expect.poll(lacking, LATER).toMatchObject({
      status: 'failed',
      found: 'lacks READ on the topic _adflow_batches.events',
    })
    const findings = await asked(secured('right'))
    expect(statuses(findings)).toMatchObject({ reachable: 'ok', disk: 'unknown' })
    const reading = ({ topic, ...rest }: Options) => ({ ...rest, topics: topic })
    expect(statuses(await askedToRead(reading(secured('wrong'))))).toEqual({ reachable: 'failed SOURCE_DENIED' })
    expect(statuses(await askedToRead(reading(secured('right'))))).toMatchObject({
      ...{ reachable: 'ok', target: 'ok', permission: 'failed SOURCE_DENIED' },
    })
    expect(JSON.stringify(findings)).not.toContain('right"')
  })
})
