/**
 * Apache Flink: a JobManager, a TaskManager with two slots and the SQL gateway, as its distribution sizes them. The jars of the distribution are on
 * PyPI, in the libraries of PyFlink; the gateway and the connector of Kafka on Maven Central.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { cached, politely } from '../../test/harness/servers/core/cache.ts'
import { javaOf } from '../../test/harness/servers/core/java.ts'
import { programFromDebian } from '../../test/harness/servers/core/machine.ts'
import { freePort } from '../../test/harness/servers/core/ports.ts'
import { cpuOf, peakOf } from '../measure.ts'

const VERSION = '2.3.0'
const MIN_JAVA = 17
const FROM_MAVEN = [
  `org.apache.flink:flink-sql-gateway:${VERSION}`,
  'org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2',
  // The connector has everything of Kafka's client but this.
  'com.github.luben:zstd-jni:1.5.7-17',
]
const UNPACK = `import sys, zipfile
for name in (wheel := zipfile.ZipFile(sys.argv[1])).namelist():
    if name.startswith('pyflink/lib/') and name.endswith('.jar'):
        open(sys.argv[2] + '/' + name.split('/')[-1], 'wb').write(wheel.read(name))`
const READY_MS = 600_000

function flinkJars(): Promise<string> {
  return cached(`flink-${VERSION}`, async (folder) => {
    const wheels = join(folder, 'wheels')
    const download = ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', wheels]
    await politely('python3', [...download, `apache-flink-libraries==${VERSION}`], {})
    const [wheel = ''] = await readdir(wheels)
    await politely('python3', ['-c', UNPACK, join(wheels, wheel), folder], {})
    await rm(wheels, { recursive: true })
    const maven = await programFromDebian('mvn', ['maven'])
    for (const artifact of FROM_MAVEN)
      await politely(
        maven,
        ['--quiet', '--batch-mode', 'dependency:copy', `-Dartifact=${artifact}`, `-DoutputDirectory=${folder}`],
        {},
      )
  })
}

export class Flink {
  readonly #folder: string
  readonly #rest: string
  readonly #gateway: string
  /** JobManager and TaskManager, and the gateway. */
  readonly #processes: readonly ChildProcess[]
  #session = ''

  private constructor(folder: string, rest: string, gateway: string, processes: readonly ChildProcess[]) {
    this.#folder = folder
    this.#rest = rest
    this.#gateway = gateway
    this.#processes = processes
  }

  static async start(): Promise<Flink> {
    const [java, jars] = [await javaOf(MIN_JAVA), await flinkJars()]
    const folder = await mkdtemp(join(tmpdir(), 'adflow-flink-'))
    const [rpc, rest, gateway] = [await freePort(), await freePort(), await freePort()]
    for (const name of ['conf', 'temp', 'checkpoints', 'plugins']) mkdirSync(join(folder, name))
    writeFileSync(join(folder, 'conf', 'config.yaml'), configuration({ folder, rpc, rest, gateway }))
    writeFileSync(join(folder, 'conf', 'log4j.properties'), LOGGING)
    const env = {
      ...{ FLINK_CONF_DIR: join(folder, 'conf'), FLINK_LIB_DIR: jars, FLINK_PLUGINS_DIR: join(folder, 'plugins') },
    }
    const run = (name: string, options: readonly string[], args: readonly string[]) => {
      const log = openSync(join(folder, `${name}.log`), 'a')
      const logging = `-Dlog4j.configurationFile=file:${join(folder, 'conf', 'log4j.properties')}`
      return spawn(java, [...options, logging, ...OPENED, '-cp', `${jars}/*`, ...args], {
        stdio: ['ignore', log, log],
        env: { ...process.env, ...env },
      })
    }
    const place = ['--configDir', join(folder, 'conf')]
    const processes = [
      run('jobmanager', JOB_MANAGER, [`${RUNTIME}.entrypoint.StandaloneSessionClusterEntrypoint`, ...place]),
      run('taskmanager', TASK_MANAGER, [`${RUNTIME}.taskexecutor.TaskManagerRunner`, ...place, ...TASK_MANAGER_MEMORY]),
      run('gateway', ['-Xmx512m'], ['org.apache.flink.table.gateway.SqlGateway', '-Dexecution.target=remote']),
    ]
    const flink = new Flink(folder, `http://127.0.0.1:${rest}`, `http://127.0.0.1:${gateway}/v1`, processes)
    process.once('exit', () => flink.#kill())
    await flink.#ready()
    return flink
  }

  async #ready(): Promise<void> {
    const deadline = Date.now() + READY_MS
    for (;;) {
      try {
        const slots = (await this.#ask(`${this.#rest}/overview`)) as { 'slots-total'?: number }
        if (slots['slots-total'] === 2) {
          this.#session = String((await this.#ask(`${this.#gateway}/sessions`, {}))['sessionHandle'])
          return
        }
      } catch (error) {
        if (Date.now() > deadline) throw error
      }
      if (Date.now() > deadline || this.#processes.some(({ exitCode }) => exitCode !== null))
        throw new Error(`Flink does not get ready\n${this.#logs()}`)
      await wait(100)
    }
  }

  /** Runs a statement; of one that starts a job the job's id, at once. */
  async sql(statement: string): Promise<string> {
    const operations = `${this.#gateway}/sessions/${this.#session}`
    const { operationHandle } = await this.#ask(`${operations}/statements`, { statement })
    for (;;) {
      const result = await this.#ask(`${operations}/operations/${operationHandle}/result/0?rowFormat=JSON`)
      if (result['resultType'] !== 'NOT_READY') return String(result['jobID'] ?? '')
      await wait(20)
    }
  }

  /** Until a job of bounded sources has finished: its last checkpoint has committed all. */
  async finished(job: string): Promise<void> {
    for (;;) {
      const { state } = (await this.#ask(`${this.#rest}/jobs/${job}`)) as { state?: string }
      if (state === 'FINISHED') return
      if (state === 'FAILED' || state === 'CANCELED') {
        const { 'root-exception': why } = await this.#ask(`${this.#rest}/jobs/${job}/exceptions`)
        throw new Error(`the job of Flink is ${state}: ${String(why).slice(0, 2000)}`)
      }
      await wait(20)
    }
  }

  /** Of JobManager and TaskManager: the gateway only hands statements over. */
  get peakBytes(): number {
    return this.#processes.slice(0, 2).reduce((sum, { pid }) => sum + peakOf(pid), 0)
  }

  get cpuSeconds(): number {
    return this.#processes.slice(0, 2).reduce((sum, { pid }) => sum + cpuOf(pid), 0)
  }

  async end(): Promise<void> {
    const ended = this.#processes.map((child) => new Promise((resolve) => child.once('exit', resolve)))
    this.#kill()
    await Promise.all(ended)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  #kill(): void {
    for (const child of this.#processes) child.kill('SIGKILL')
  }

  async #ask(url: string, body?: object): Promise<Record<string, unknown>> {
    const init =
      body === undefined
        ? {}
        : { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
    const response = await fetch(url, init)
    const text = await response.text()
    if (!response.ok) throw new Error(`${url}: ${text.slice(0, 3000)}`)
    return JSON.parse(text) as Record<string, unknown>
  }

  #logs(): string {
    return ['jobmanager', 'taskmanager', 'gateway']
      .map((name) => readFileSync(join(this.#folder, `${name}.log`), 'utf8').slice(-1500))
      .join('\n')
  }
}

const RUNTIME = 'org.apache.flink.runtime'

/** What its scripts make of the defaults of its configuration: 1600 MB for the JobManager, 1728 MB for the TaskManager. */
const JOB_MANAGER = ['-Xms1024m', '-Xmx1024m', '-XX:MaxMetaspaceSize=256m']
const TASK_MANAGER = ['-Xms512m', '-Xmx512m', '-XX:MaxDirectMemorySize=256m', '-XX:MaxMetaspaceSize=256m']
const TASK_MANAGER_MEMORY = [
  ...['cpu.cores=2', 'memory.task.heap.size=384m', 'memory.task.off-heap.size=0'],
  ...['memory.framework.heap.size=128m', 'memory.framework.off-heap.size=128m'],
  ...['memory.network.min=128m', 'memory.network.max=128m', 'memory.managed.size=512m'],
  ...['memory.jvm-metaspace.size=256m', 'memory.jvm-overhead.min=192m', 'memory.jvm-overhead.max=192m'],
].flatMap((setting) => ['-D', `taskmanager.${setting}`])

const OPENED = [
  ...['lang', 'util', 'net', 'io', 'nio', 'lang.reflect', 'text', 'time', 'util.concurrent', 'util.concurrent.atomic'],
  'util.concurrent.locks',
]
  .map((name) => `--add-opens=java.base/java.${name}=ALL-UNNAMED`)
  .concat(
    '--add-opens=java.base/sun.nio.ch=ALL-UNNAMED',
    '--add-exports=java.base/sun.net.util=ALL-UNNAMED',
    '--add-exports=java.management/sun.management=ALL-UNNAMED',
  )

const LOGGING = `rootLogger.level=warn
rootLogger.appenderRef.out.ref=out
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n
`

function configuration(of: {
  readonly folder: string
  readonly rpc: number
  readonly rest: number
  readonly gateway: number
}): string {
  return `jobmanager.rpc.address: 127.0.0.1
jobmanager.bind-host: 127.0.0.1
jobmanager.rpc.port: ${of.rpc}
jobmanager.memory.process.size: 1600m
taskmanager.host: 127.0.0.1
taskmanager.bind-host: 127.0.0.1
taskmanager.numberOfTaskSlots: 2
parallelism.default: 2
rest.address: 127.0.0.1
rest.bind-address: 127.0.0.1
rest.port: ${of.rest}
blob.server.port: 0
io.tmp.dirs: ${join(of.folder, 'temp')}
execution.checkpointing.interval: 2s
restart-strategy.type: none
execution.checkpointing.dir: file://${join(of.folder, 'checkpoints')}
sql-gateway.endpoint.rest.address: 127.0.0.1
sql-gateway.endpoint.rest.bind-address: 127.0.0.1
sql-gateway.endpoint.rest.port: ${of.gateway}
sql-gateway.endpoint.rest.bind-port: ${of.gateway}
`
}
