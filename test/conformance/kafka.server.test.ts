import { writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { Connection } from '@platformatic/kafka'
import { ident, literal } from '../../src/engine/sql-text.ts'
import kafka from '../../src/loaders/kafka.ts'
import type { DyingProcess } from '../harness/dying-process.ts'
import { readTopic } from '../harness/kafka-reader.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { type Columns, type LoaderFixture, loaderConformance } from './suites/loader.ts'

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

/** A dead process sends nothing more, and its connections are gone. */
function requestsAsSteps(dying: DyingProcess): () => void {
  const send = Connection.prototype.send as (...args: unknown[]) => unknown
  Object.assign(Connection.prototype, {
    send(this: Connection, ...args: unknown[]) {
      try {
        dying.step()
      } catch (error) {
        this.socket.destroy()
        return (args.at(-1) as (failed: unknown) => void)(error)
      }
      return Reflect.apply(send, this, args)
    },
  })
  return () => Object.assign(Connection.prototype, { send })
}

await serverSuite('the loader of Kafka', ['kafka'], ({ kafka: { brokers } }) => {
  loaderConformance('kafka', topic(brokers, { partitions: 1 }))
  loaderConformance(
    'kafka, events by key',
    topic(brokers, { partitions: 3, key: 'id', compression: 'gzip', cloudevents: { type: 'com.example.row' } }),
  )
})
