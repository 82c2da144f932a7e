/** Apache Kafka's own producer, each line of the NDJSON file a record. */
import { execFileSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { javaOf } from '../../test/harness/servers/core/java.ts'
import { kafkaJars } from '../../test/harness/servers/kafka.ts'
import { startPrivate } from '../../test/harness/servers/private.ts'
import type { BenchStore } from './store.ts'

const PEERS = join(dirname(dirname(fileURLToPath(import.meta.url))), 'peers')
const MIN_JAVA = 17

export const store: BenchStore = {
  format: 'ndjson',
  async start({ path, folder }) {
    const server = await startPrivate('kafka')
    const { brokers } = server.endpoint
    const [java, lib] = [await javaOf(MIN_JAVA), await kafkaJars()]
    execFileSync(join(dirname(java), 'javac'), ['-cp', `${lib}/*`, '-d', folder, join(PEERS, 'ProduceLines.java')])
    return {
      load: { type: 'kafka', brokers, topic: 'events' },
      tools: [
        {
          name: 'the producer of Apache Kafka',
          argv: [java, '-cp', `${lib}/*:${folder}`, 'ProduceLines', brokers, 'copied', path],
        },
      ],
      empty: () => {
        execFileSync(process.execPath, [join(PEERS, 'empty-topics.ts'), brokers], {
          stdio: ['ignore', 'ignore', 'inherit'],
        })
      },
      end: () => server.end(),
    }
  },
}
