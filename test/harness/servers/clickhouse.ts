/**
 * A current ClickHouse. No registry that this project may use has its server; the npm package of chdb has clickhouse-local
 * with its listeners, and that serves the real HTTP and native protocols. It lacks ReplicatedMergeTree, CREATE USER and
 * system.query_log. A Node FFI cannot start it: ClickHouse checks the stack it is called on, and koffi calls on one of its
 * own; so the launcher is Python.
 */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { npmPackages } from './core/cache.ts'
import { defineServer } from './core/kind.ts'
import { programFromDebian } from './core/machine.ts'
import { answers } from './core/process.ts'

export interface ClickHouseEndpoint extends Record<string, string> {
  /** `http://user:password@host:port` of a user who may do everything. */
  readonly url: string
  /** `http://user:password@host:port` of a user who may only read. */
  readonly readerUrl: string
  /** `host:port` of the native protocol. */
  readonly native: string
}

export interface ClickHouseOptions {
  /** Arguments of clickhouse-local, such as `--max_server_memory_usage=…`. */
  readonly args?: readonly string[]
}

const VERSION = '3.4.0'
const LAUNCHER = fileURLToPath(new URL('clickhouse-local.py', import.meta.url))

/** Listens, and goes on for as long as the process lives. */
const SERVE = `SYSTEM START LISTEN HTTP; SYSTEM START LISTEN TCP;
SELECT sleepEachRow(0.2) FROM system.numbers
SETTINGS max_block_size = 1, max_threads = 1, function_sleep_max_microseconds_per_block = 0 FORMAT Null`

export default defineServer<ClickHouseEndpoint, ClickHouseOptions>({
  name: 'clickhouse',
  summary: `ClickHouse of npm chdb ${VERSION}`,
  variables: {
    url: 'ADFLOW_TEST_CLICKHOUSE_URL',
    readerUrl: 'ADFLOW_TEST_CLICKHOUSE_READER_URL',
    native: 'ADFLOW_TEST_CLICKHOUSE_NATIVE',
  },

  async install() {
    await programFromDebian('python3', ['python3'])
    await library()
  },

  async start(context, options) {
    const [http, tcp] = [await context.port(), await context.port()]
    context.folder.write('users.xml', USERS)
    const users = join(context.folder.path, 'users.xml')
    const config = context.folder.write(
      'config.xml',
      `<clickhouse><users_config>${users}</users_config></clickhouse>\n`,
    )
    await context.run({
      command: await programFromDebian('python3', ['python3']),
      args: [
        LAUNCHER,
        await library(),
        `--path=${context.disk()}`,
        `--config-file=${config}`,
        '--listen_host=127.0.0.1',
        `--http_port=${http}`,
        `--tcp_port=${tcp}`,
        '--logger.console=false',
        ...(options.args ?? []),
        `--query=${SERVE}`,
      ],
      log: join(context.folder.path, 'log'),
      ready: () => answers(`http://127.0.0.1:${http}/ping`),
    })
    return {
      url: `http://adflow:adflow@127.0.0.1:${http}`,
      readerUrl: `http://reader:reader@127.0.0.1:${http}`,
      native: `127.0.0.1:${tcp}`,
    }
  },
})

async function library(): Promise<string> {
  const modules = await npmPackages('chdb', [`chdb@${VERSION}`])
  const libc = process.platform === 'linux' ? '-gnu' : ''
  const system = `lib-${process.platform}-${process.arch}${libc}`
  return join(modules, '@chdb', system, process.platform === 'darwin' ? 'libchdb.dylib' : 'libchdb.so')
}

const NETWORK = '<networks><ip>127.0.0.1</ip></networks><profile>default</profile><quota>default</quota>'
/** The writer may insert and read, and make nothing. Of the frozen none may change a setting; answers to all three end after ten rows. */
const USERS = `<clickhouse><profiles><default/><frozen><readonly>1</readonly><limit>10</limit></frozen>
<short><readonly>1</readonly><max_result_rows>10</max_result_rows><result_overflow_mode>break</result_overflow_mode></short>
<hasty><limit>10</limit><result_overflow_mode>break</result_overflow_mode><max_result_rows>10000000</max_result_rows></hasty></profiles><quotas><default/></quotas><users>
<default><no_password/>${NETWORK}<access_management>1</access_management></default>
<adflow><password>adflow</password>${NETWORK}</adflow>
<writer><password>writer</password>${NETWORK}<grants><query>GRANT SELECT, INSERT ON *.*</query></grants></writer>
<reader><password>reader</password>${NETWORK}<grants><query>GRANT SELECT ON *.*</query></grants></reader>
${['frozen', 'short', 'hasty'].map((name) => `<${name}><password>${name}</password>${NETWORK.replace('default', name)}</${name}>`).join('\n')}
</users></clickhouse>
`
