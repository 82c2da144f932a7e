import { Args, Flags } from '@oclif/core'
import { BaseCommand, errorText } from '../cli/base-command.ts'
import { consumersTable, owedLines } from '../cli/consumers-text.ts'
import { catchSignals } from '../cli/signals.ts'
import { AdflowError, EXIT } from '../core/errors.ts'
import { parseDuration } from '../core/job/units.ts'
import { whoIsThis } from '../core/who.ts'
import { type DistributeSummary, distributeJob } from '../distribute/distribute-job.ts'

export default class Distribute extends BaseCommand {
  static override summary = 'Hand over what waits for the consumers of a job, without reading a source.'
  static override description =
    `A run distributes by itself what it has loaded. This works off what was left: because a consumer was down, a run was
killed, or dead letters were sent back. It ends when nothing waits, or when a consumer has taken nothing for its \`patience\`
(exit 69). The first SIGINT or SIGTERM stops sending and finishes what is under way.`
  static override examples = [
    { description: 'What waits for all consumers', command: '<%= config.bin %> <%= command.id %> JOB' },
    {
      description: 'One consumer, however long it takes, but an hour at most',
      command: '<%= config.bin %> <%= command.id %> JOB --only billing --until-empty --timeout 1h',
    },
    {
      description: 'A consumer that has answered 410 Gone is to be used again',
      command: '<%= config.bin %> <%= command.id %> JOB --switch-on billing',
    },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    only: Flags.string({
      multiple: true,
      helpValue: 'CONSUMER',
      description: 'Only this consumer (may be repeated).',
    }),
    'until-empty': Flags.boolean({ description: 'Go on until nothing waits, however long a consumer takes nothing.' }),
    timeout: Flags.string({ helpValue: 'DURATION', description: 'End after this time, such as 10m.' }),
    'switch-on': Flags.string({
      multiple: true,
      helpValue: 'CONSUMER',
      description: 'Switch on a consumer that said it wants nothing any more; audited.',
    }),
  }

  async run(): Promise<DistributeSummary> {
    const { args, flags } = await this.parse(Distribute)
    const job = await this.job(args.job)
    const timeoutMs = flags.timeout === undefined ? undefined : parseDuration(flags.timeout)
    if (flags.timeout !== undefined && timeoutMs === undefined)
      throw new AdflowError('USAGE', `--timeout ${flags.timeout} is no duration`, { hint: 'such as 30s, 10m or 1h' })
    const signals = catchSignals((error) => void this.catch(error))
    const summary = await distributeJob({
      job,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
      command: this.commandLine,
      who: whoIsThis(),
      drain: signals.drain,
      switchOn: flags['switch-on'] ?? [],
      untilEmpty: flags['until-empty'],
      ...(flags.only === undefined ? {} : { only: flags.only }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    }).finally(() => signals.release())
    if (signals.exit !== undefined && summary.exit === EXIT.done) summary.exit = signals.exit
    process.exitCode = summary.exit
    this.log([consumersTable(summary.consumers), ...owedLines(summary.consumers)].join('\n'))
    if (summary.error !== undefined && !this.jsonEnabled()) {
      const { code, message, hint } = summary.error
      process.stderr.write(`${errorText(new AdflowError(code, message, hint === undefined ? {} : { hint }))}\n`)
    }
    return summary
  }
}
