import { stat } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join, resolve } from 'node:path'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { parseListen, tokenFlag } from '../../cli/daemon-flags.ts'
import { catchSignals } from '../../cli/signals.ts'
import { AdflowError } from '../../core/errors.ts'
import { lintApart } from '../../daemon/apart.ts'
import { SYSTEM_CLOCK } from '../../daemon/clock.ts'
import { daemonFolder, runDaemon } from '../../daemon/daemon.ts'
import { systemdNotifier } from '../../daemon/notify.ts'
import { ensureToken, requireToken } from '../../daemon/token.ts'
import { PUSH_LIMITS } from '../../gateway/gateway.ts'
import { resolveStateDir } from '../../runtime/state-dir.ts'

export default class Daemon extends BaseCommand {
  static override summary = 'Run the jobs of a folder at their times, for months, unattended.'
  static override description =
    `Each job file says by its key \`schedule\` when it is run. Each scheduled time gets one run, also where several daemons share a
state directory: one leads, the others stand by and take over when it is gone. Files that change are taken up; while a file has mistakes its
job goes on as it was. The first SIGINT or SIGTERM stops what is under way within 25 s (exit 0); the second ends at once (exit 75).`
  static override examples = [
    { description: 'The jobs of ./jobs', command: '<%= config.bin %> <%= command.id %> jobs' },
    {
      description: 'Four runs at a time, answering on another port',
      command: '<%= config.bin %> <%= command.id %> jobs --parallel 4 --listen 127.0.0.1:9500',
    },
  ]
  static override args = { folder: Args.directory({ required: true, description: 'Folder of job files.' }) }
  static override flags = {
    listen: Flags.string({
      default: '127.0.0.1:9464',
      env: 'ADFLOW_DAEMON_LISTEN',
      helpValue: 'HOST:PORT',
      description: 'Where probes, metrics and the API answer; port 0 takes a free one.',
    }),
    ...tokenFlag,
    push: Flags.string({
      env: 'ADFLOW_DAEMON_PUSH',
      helpValue: 'HOST:PORT',
      description: 'Take pushes there for the sources of type push of the jobs, while this daemon leads.',
    }),
    parallel: Flags.integer({
      min: 1,
      max: 256,
      helpValue: 'N',
      description: 'Runs that may go on at the same time. Default: the number of cores.',
    }),
  }

  async run(): Promise<void> {
    const { args, flags, metadata } = await this.parse(Daemon)
    const folder = resolve(args.folder)
    const found = await stat(folder).catch(() => undefined)
    if (found?.isDirectory() !== true)
      throw new AdflowError('JOB_NOT_FOUND', `there is no folder ${folder}`, {
        hint: 'name the folder of the job files',
      })
    const { host, port } = parseListen(flags.listen)
    const stateFlag = flags['state-dir']
    const stateDir = resolveStateDir({
      ...(stateFlag === undefined ? {} : { flag: stateFlag }),
      env: process.env,
      jobFile: join(folder, 'any.yaml'),
    })
    if (flags.push !== undefined && this.place !== undefined)
      throw new AdflowError('USAGE', 'pushes cannot be taken where the state is shared by several machines', {
        hint: 'what was accepted lies on one machine: start a daemon with a folder as --state-dir for those jobs',
      })
    const sources = { env: process.env, ...(flags['token-file'] === undefined ? {} : { file: flags['token-file'] }) }
    requireToken(host, sources)
    const log = this.logger(
      metadata.flags['log-level']?.setFromDefault === true ? { ...flags, 'log-level': 'info' } : flags,
    )
    const program = join(this.config.root, 'bin', 'run.js')
    const signals = catchSignals((error) => void this.catch(error))
    // Never released: a second signal in the last moment must not look like a death.
    await runDaemon({
      folder,
      stateDir,
      place: this.place,
      registry: await this.registry(),
      log,
      host,
      port,
      token: await ensureToken({ ...sources, folder: daemonFolder(stateDir, this.place) }),
      parallel: flags.parallel ?? availableParallelism(),
      program,
      lint: (files) => lintApart(program, files),
      drain: signals.drain,
      clock: SYSTEM_CLOCK,
      notifier: systemdNotifier(process.env, log),
      version: this.config.version,
      command: this.commandLine,
      ...(flags.push === undefined ? {} : { push: { ...PUSH_LIMITS, ...parseListen(flags.push) } }),
      listening: (url) => log.info({ url }, `answers at ${url}`),
    })
  }
}
