import { writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { ident, literal } from '../../src/engine/sql-text.ts'
import kafka from '../../src/loaders/kafka.ts'
import { readTopic } from '../harness/kafka-reader.ts'
import { requestsAsSteps } from '../harness/kafka-steps.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { type Columns, type LoaderFixture, loaderConformance } from './suites/loader.ts'
import { type FaultyStore, storeFaults } from './suites/store-faults.ts'

type Options = Readonly<Record<string, unknown>>

let reads = 0

function topic(brokers: string, options: Options): LoaderFixture<unknown> {
  return {
    definition: kafka as LoaderFixture<unknown>['definition'],
    type: 'kafka',
    options: { brokers, topic: 'events', ...options },
    other: { brokers, topic: 'other', ...options },
    stepsOf: requestsAsSteps,
    place: (folder, own) => ({ topic: `${basename(folder)}.${String(own['topic'])}` }),
    rows: async ({ topic: name }, folder, columns) => {
      reads += 1
      const file = join(folder, 'spill', `read-${reads}.ndjson`)
      const records = await readTopic(brokers, String(name))
      writeFileSync(file, records.map(({ value }) => `${String(value)}\n`).join(''))
      return `SELECT ${Object.keys(columns).map(ident).join(', ')} FROM read_json(${literal(file)}, format = 'newline_delimited', columns = ${typesOf(columns)})`
    },
  }
}

function typesOf(columns: Columns): string {
  return `{${Object.entries(columns)
    .map(([name, type]) => `${literal(name)}: ${literal(type)}`)
    .join(', ')}}`
}

async function faulty(): Promise<FaultyStore> {
  const server = await startPrivate('kafka', {
    settings: { 'broker.session.timeout.ms': '3000', 'broker.heartbeat.interval.ms': '500' },
  })
  const { brokers } = server.endpoint
  return {
    loads: (place) => ({ published: { type: 'kafka', brokers, topic: place, partitions: 2, key: 'n' } }),
    held: async (place) => {
      const texts = (await readTopic(brokers, place)).map(({ value }) => String(value))
      // As text: JSON.parse would round them.
      const numbers = (name: string) =>
        texts.map((text) => BigInt(new RegExp(`"${name}":(\\d+)`).exec(text)?.[1] ?? -1))
      const micros = numbers('micros').reduce((a, b) => a + b, 0n)
      return { published: { rows: texts.length, ids: new Set(numbers('id')).size, micros: String(micros) } }
    },
    kill9: () => server.kill9(),
    restart: () => server.restart(),
    end: () => server.end(),
  }
}

await serverSuite('the loader of Kafka', ['kafka'], ({ kafka: { brokers } }) => {
  loaderConformance('kafka', topic(brokers, { partitions: 1 }))
  loaderConformance(
    'kafka, events by key',
    topic(brokers, { partitions: 3, key: 'id', compression: 'gzip', cloudevents: { type: 'com.example.row' } }),
  )
  storeFaults('kafka', faulty)
})
