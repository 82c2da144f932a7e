import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { parseListen } from '../cli/daemon-flags.ts'
import { catchSignals } from '../cli/signals.ts'
import { AdflowError } from '../core/errors.ts'
import { parseBytes } from '../core/job/units.ts'
import { systemdNotifier } from '../daemon/notify.ts'
import { Gateway, PUSH_LIMITS } from '../gateway/gateway.ts'
import { readPushSources } from '../gateway/job-sources.ts'
import { resolveStateDir } from '../runtime/state-dir.ts'

const ALIVE_MS = 1000

export default class ServePush extends BaseCommand {
  static override summary = 'Take events that are pushed over HTTP, for the sources of type push of these jobs.'
  static override description =
    `Each event is answered for only when it is on the disk. Jobs load what was taken whenever they run, whether this gateway
runs then or not. The first SIGINT or SIGTERM answers what is under way, within 25 s (exit 0); the second ends at once (exit 75), and loses nothing
that was answered for.`
  static override examples = [
    { description: 'For the jobs of ./jobs', command: '<%= config.bin %> <%= command.id %> jobs' },
    {
      description: 'For other machines; every source must have tokens then',
      command: '<%= config.bin %> <%= command.id %> jobs --listen 0.0.0.0:9465',
    },
  ]
  static override args = {
    jobs: Args.string({ required: true, description: 'Job file, or folder of job files.' }),
  }
  static override flags = {
    listen: Flags.string({
      default: '127.0.0.1:9465',
      env: 'ADFLOW_PUSH_LISTEN',
      helpValue: 'HOST:PORT',
      description: 'Where pushes are taken; port 0 takes a free one.',
    }),
    memory: Flags.string({
      default: '256MiB',
      helpValue: 'SIZE',
      description: 'Most bytes of bodies under way, copies counted; beyond it 429.',
    }),
    connections: Flags.integer({
      min: 1,
      default: PUSH_LIMITS.connections,
      helpValue: 'N',
      description: 'Most connections at a time.',
    }),
  }

  async run(): Promise<void> {
    const { args, flags, metadata } = await this.parse(ServePush)
    const { host, port } = parseListen(flags.listen)
    const memoryBytes = parseBytes(flags.memory)
    if (memoryBytes === undefined || memoryBytes === 0)
      throw new AdflowError('USAGE', `--memory ${flags.memory} is no size`, { hint: 'such as 256MiB' })
    if (this.place !== undefined)
      throw new AdflowError('USAGE', 'pushes cannot be taken where the state is shared by several machines', {
        hint: 'what was accepted lies on one machine: give a folder as --state-dir',
      })
    const flag = flags['state-dir']
    const sources = await readPushSources(args.jobs, {
      registry: await this.registry(),
      stateDir: (jobFile) => resolveStateDir({ ...(flag === undefined ? {} : { flag }), env: process.env, jobFile }),
    })
    const log = this.logger(
      metadata.flags['log-level']?.setFromDefault === true ? { ...flags, 'log-level': 'info' } : flags,
    )
    const signals = catchSignals((error) => void this.catch(error))
    const notifier = systemdNotifier(process.env, log)
    const gateway = await Gateway.start(
      { host, port, memoryBytes, connections: flags.connections, log, command: this.commandLine },
      sources,
    )
    log.info({ url: gateway.url }, `takes pushes at ${gateway.url}`)
    notifier.send('READY=1')
    await this.#untilToldTo(signals.drain)
    notifier.send('STOPPING=1')
    await gateway.close()
  }

  /** The server alone does not keep the process alive. */
  #untilToldTo(drain: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const alive = setInterval(() => undefined, ALIVE_MS)
      const stop = () => {
        clearInterval(alive)
        resolve()
      }
      if (drain.aborted) stop()
      drain.addEventListener('abort', stop)
    })
  }
}
