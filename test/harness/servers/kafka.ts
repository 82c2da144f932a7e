/** Apache Kafka of Maven Central: a node that is broker and controller (KRaft), and more brokers if wanted. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Certificate } from './core/certificates.ts'
import type { Folder } from './core/folder.ts'
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
  /** `host:port` of the listener of the option `secured`. Empty without it. */
  readonly secured: string
}

export interface KafkaOptions {
  /** Lines of server.properties. */
  readonly settings?: Readonly<Record<string, string>>
  /** The port of a proxy of `behindProxy`. */
  readonly advertisedPort?: number
  /** Brokers; those after the first have the plain listener alone. `processes` of the server has them in order. */
  readonly nodes?: number
  readonly secured?: {
    /** Shown by the listener. Without it the listener is not encrypted. */
    readonly tls?: Certificate
    /** Name → password, for PLAIN and SCRAM. They may do nothing until a test grants it; whoever comes by `brokers` may do all. */
    readonly users?: Readonly<Record<string, string>>
  }
}

const VERSION = '4.4.0'
const MIN_JAVA = 17
/** Any will do: 16 bytes in base64url. */
const CLUSTER_ID = 'YWRmbG93LXRlc3RzLWthZg'

/** Folder of all jars of Kafka. */
export const kafkaJars = () =>
  mavenJars('kafka', [`org.apache.kafka:kafka_2.13:${VERSION}`, 'org.apache.logging.log4j:log4j-slf4j-impl:2.25.5'])

export default defineServer<KafkaEndpoint, KafkaOptions>({
  name: 'kafka',
  summary: `Apache Kafka ${VERSION}, KRaft`,
  variables: {
    brokers: 'ADFLOW_TEST_KAFKA_BROKERS',
    behindProxy: 'ADFLOW_TEST_KAFKA_BEHIND_PROXY',
    secured: 'ADFLOW_TEST_KAFKA_SECURED',
  },

  async install() {
    await javaOf(MIN_JAVA)
    await kafkaJars()
  },

  async start(context, options) {
    const [lib, java] = [await kafkaJars(), await javaOf(MIN_JAVA)]
    const [broker, controller, proxied] = [await context.port(), await context.port(), await context.port()]
    const secured = options.secured === undefined ? undefined : await context.port()
    const { folder } = context
    const listener = secured === undefined ? '' : `,SECURED://127.0.0.1:${secured}`
    const properties = folder.write(
      'server.properties',
      lines({
        'process.roles': 'broker,controller',
        'node.id': '1',
        'controller.quorum.voters': `1@127.0.0.1:${controller}`,
        listeners: `PLAIN://127.0.0.1:${broker},PROXIED://127.0.0.1:${proxied},CONTROLLER://127.0.0.1:${controller}${listener}`,
        'advertised.listeners': `PLAIN://127.0.0.1:${broker},PROXIED://127.0.0.1:${options.advertisedPort ?? proxied}${listener}`,
        'listener.security.protocol.map': `PLAIN:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURED:${protocolOf(options)}`,
        'controller.listener.names': 'CONTROLLER',
        'inter.broker.listener.name': 'PLAIN',
        'log.dirs': context.disk(),
        ...SETTINGS,
        ...securitySettings(folder, options),
        ...options.settings,
      }),
    )
    const logging = folder.write('log4j2.properties', LOGGING)
    const run = async (own: string, log: string) => {
      await command(java, [...FORMATTER, '-cp', `${lib}/*`, ...format(own, options)])
      await context.run({
        command: java,
        args: [
          ...['-Xms256m', '-Xmx768m', '-XX:+UseSerialGC', `-Dlog4j2.configurationFile=file:${logging}`],
          ...['-cp', `${lib}/*`, 'kafka.Kafka', own],
        ],
        log: join(folder.path, log),
        // The port opens earlier.
        ready: (logged) => logged().includes('Kafka Server started'),
      })
    }
    await run(properties, 'log')
    for (let node = 2; node <= (options.nodes ?? 1); node += 1) {
      const own = lines({
        ...{ 'process.roles': 'broker', 'node.id': String(node) },
        ...{ 'controller.quorum.voters': `1@127.0.0.1:${controller}`, 'controller.listener.names': 'CONTROLLER' },
        listeners: `PLAIN://127.0.0.1:${await context.port()}`,
        'listener.security.protocol.map': 'PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT',
        'inter.broker.listener.name': 'PLAIN',
        'log.dirs': folder.make(`disk-${node}`),
        ...SETTINGS,
        ...options.settings,
      })
      await run(folder.write(`node-${node}.properties`, own), `log-${node}`)
    }
    return {
      brokers: `127.0.0.1:${broker}`,
      behindProxy: options.advertisedPort === undefined ? '' : `127.0.0.1:${proxied}`,
      secured: secured === undefined ? '' : `127.0.0.1:${secured}`,
    }
  },
})

const FORMATTER = ['-Xmx128m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1']

function format(properties: string, { secured }: KafkaOptions): string[] {
  const users = Object.entries(secured?.users ?? {}).flatMap(([name, password]) =>
    ['SCRAM-SHA-256', 'SCRAM-SHA-512'].flatMap((kind) => ['-S', `${kind}=[name=${name},password=${password}]`]),
  )
  return ['kafka.tools.StorageTool', 'format', '-t', CLUSTER_ID, '-c', properties, ...users]
}

function protocolOf({ secured }: KafkaOptions): string {
  const encrypted = secured?.tls === undefined ? 'PLAINTEXT' : 'SSL'
  return secured?.users === undefined ? encrypted : `SASL_${encrypted}`
}

function securitySettings(folder: Folder, { secured }: KafkaOptions): Readonly<Record<string, string>> {
  const { tls, users } = secured ?? {}
  const listener = 'listener.name.secured.'
  const accounts = Object.entries(users ?? {}).map(([name, password]) => ` user_${name}="${password}"`)
  const login = (module: string, more = '') => `org.apache.kafka.common.security.${module} required${more};`
  return {
    ...(tls === undefined
      ? {}
      : {
          [`${listener}ssl.keystore.type`]: 'PEM',
          [`${listener}ssl.keystore.location`]: folder.write(
            'keystore.pem',
            `${readFileSync(tls.keyFile, 'utf8')}\n${readFileSync(tls.certificateFile, 'utf8')}\n`,
          ),
        }),
    ...(users === undefined
      ? {}
      : {
          [`${listener}sasl.enabled.mechanisms`]: 'PLAIN,SCRAM-SHA-256,SCRAM-SHA-512',
          [`${listener}plain.sasl.jaas.config`]: login('plain.PlainLoginModule', accounts.join('')),
          [`${listener}scram-sha-256.sasl.jaas.config`]: login('scram.ScramLoginModule'),
          [`${listener}scram-sha-512.sasl.jaas.config`]: login('scram.ScramLoginModule'),
          'authorizer.class.name': 'org.apache.kafka.metadata.authorizer.StandardAuthorizer',
          'super.users': 'User:ANONYMOUS',
        }),
  }
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
