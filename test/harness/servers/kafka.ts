/** Apache Kafka of Maven Central: one node that is broker and controller (KRaft). */
import { join } from 'node:path'
import { javaOf } from './core/java.ts'
import { defineServer } from './core/kind.ts'
import { command } from './core/machine.ts'
import { mavenJars } from './core/maven.ts'

export interface KafkaEndpoint extends Record<string, string> {
  /** `host:port` */
  readonly brokers: string
  /**
   * `host:port` of a listener that tells its clients to come to `advertisedPort`. Empty without that option. A proxy
   * stands between: clients go where the broker tells them, so it must know the proxy.
   */
  readonly behindProxy: string
}

export interface KafkaOptions {
  /** Lines of server.properties. */
  readonly settings?: Readonly<Record<string, string>>
  /** The port of a proxy of `behindProxy`. */
  readonly advertisedPort?: number
}

const VERSION = '4.4.0'
const MIN_JAVA = 17
/** Any will do: 16 bytes in base64url. */
const CLUSTER_ID = 'YWRmbG93LXRlc3RzLWthZg'

const jars = () =>
  mavenJars('kafka', [`org.apache.kafka:kafka_2.13:${VERSION}`, 'org.apache.logging.log4j:log4j-slf4j-impl:2.25.5'])

export default defineServer<KafkaEndpoint, KafkaOptions>({
  name: 'kafka',
  summary: `Apache Kafka ${VERSION}, KRaft`,
  variables: { brokers: 'ADFLOW_TEST_KAFKA_BROKERS', behindProxy: 'ADFLOW_TEST_KAFKA_BEHIND_PROXY' },

  async install() {
    await javaOf(MIN_JAVA)
    await jars()
  },

  async start(context, options) {
    const [lib, java] = [await jars(), await javaOf(MIN_JAVA)]
    const [broker, controller, proxied] = [await context.port(), await context.port(), await context.port()]
    const { folder } = context
    const properties = folder.write(
      'server.properties',
      lines({
        'process.roles': 'broker,controller',
        'node.id': '1',
        'controller.quorum.voters': `1@127.0.0.1:${controller}`,
        listeners: `PLAIN://127.0.0.1:${broker},PROXIED://127.0.0.1:${proxied},CONTROLLER://127.0.0.1:${controller}`,
        'advertised.listeners': `PLAIN://127.0.0.1:${broker},PROXIED://127.0.0.1:${options.advertisedPort ?? proxied}`,
        'listener.security.protocol.map': 'PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT',
        'controller.listener.names': 'CONTROLLER',
        'inter.broker.listener.name': 'PLAIN',
        'log.dirs': context.disk(),
        ...SETTINGS,
        ...options.settings,
      }),
    )
    const logging = folder.write('log4j2.properties', LOGGING)
    await command(java, [...FORMATTER, '-cp', `${lib}/*`, ...format(properties)])
    await context.run({
      command: java,
      args: [
        ...['-Xms256m', '-Xmx768m', '-XX:+UseSerialGC', `-Dlog4j2.configurationFile=file:${logging}`],
        ...['-cp', `${lib}/*`, 'kafka.Kafka', properties],
      ],
      log: join(folder.path, 'log'),
      // The port opens earlier.
      ready: (logged) => logged().includes('Kafka Server started'),
    })
    return {
      brokers: `127.0.0.1:${broker}`,
      behindProxy: options.advertisedPort === undefined ? '' : `127.0.0.1:${proxied}`,
    }
  },
})

const FORMATTER = ['-Xmx128m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1']

function format(properties: string): string[] {
  return ['kafka.tools.StorageTool', 'format', '-t', CLUSTER_ID, '-c', properties]
}

/** One node: every internal topic has one copy. */
const SETTINGS = {
  'num.partitions': '6',
  'auto.create.topics.enable': 'false',
  'offsets.topic.replication.factor': '1',
  'offsets.topic.num.partitions': '3',
  'transaction.state.log.replication.factor': '1',
  'transaction.state.log.min.isr': '1',
  'transaction.state.log.num.partitions': '3',
  'share.coordinator.state.topic.replication.factor': '1',
  'share.coordinator.state.topic.min.isr': '1',
  'group.initial.rebalance.delay.ms': '0',
}

const LOGGING = lines({
  'rootLogger.level': 'warn',
  'rootLogger.appenderRef.out.ref': 'out',
  'appender.out.type': 'Console',
  'appender.out.name': 'out',
  'appender.out.layout.type': 'PatternLayout',
  'appender.out.layout.pattern': '[%d] %p %m (%c)%n',
  'logger.server.name': 'kafka.server.KafkaRaftServer',
  'logger.server.level': 'info',
})

function lines(values: Readonly<Record<string, string>>): string {
  return Object.entries(values)
    .map(([key, value]) => `${key}=${value}\n`)
    .join('')
}
