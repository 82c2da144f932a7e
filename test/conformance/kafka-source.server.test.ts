import kafka from '../../src/extractors/kafka.ts'
import { KafkaWriter } from '../harness/kafka-writer.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { kafkaFixture } from './fixtures/kafka.ts'
import { extractorConformance } from './suites/extractor.ts'
import { type FaultySource, SOURCE_ROWS, sourceFaults } from './suites/source-faults.ts'

async function faulty(): Promise<FaultySource> {
  const server = await startPrivate('kafka')
  const { brokers } = server.endpoint
  const writer = new KafkaWriter(brokers)
  await writer.create('rows', { partitions: 2 })
  const messages = SOURCE_ROWS.map((value, index) => ({ value, partition: index % 2 }))
  await writer.send('rows', messages, { batch: 500 })
  return {
    extract: { type: 'kafka', brokers, topics: 'rows', connect_timeout: '1s', patience: '2s', fetch_bytes: '64KiB' },
    kill9: () => server.kill9(),
    restart: () => server.restart(),
    end: () => server.end(),
  }
}

await serverSuite('the extractor of Kafka', ['kafka'], ({ kafka: { brokers } }) => {
  extractorConformance('kafka', kafka, () => kafkaFixture(brokers))
  sourceFaults('kafka', faulty, { startsSlowly: true })
})
