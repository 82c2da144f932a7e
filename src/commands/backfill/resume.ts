import { Args } from '@oclif/core'
import { backfillProgress, backfillText } from '../../cli/backfill-text.ts'
import { BaseCommand } from '../../cli/base-command.ts'
import { catchSignals } from '../../cli/signals.ts'
import { EXIT } from '../../core/errors.ts'
import { whoIsThis } from '../../core/who.ts'
import { type BackfillReport, resumeBackfill } from '../../reconcile/backfill.ts'

export default class BackfillResume extends BaseCommand {
  static override summary = 'Go on with a backfill that was paused, killed, or could not load everything.'
  static override examples = [
    '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml',
    '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml 019abc --json',
  ]
  static override args = {
    job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
    backfill: Args.string({ default: 'last', description: 'Id, the beginning of one, or `last`.' }),
  }

  async run(): Promise<BackfillReport> {
    const { args, flags } = await this.parse(BackfillResume)
    const job = await this.job(args.job)
    const progress = backfillProgress(!this.jsonEnabled())
    const signals = catchSignals((error) => void this.catch(error))
    const report = await resumeBackfill({
      job,
      id: args.backfill,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
      command: this.commandLine,
      version: this.config.version,
      who: whoIsThis(),
      drain: signals.drain,
      observer: progress,
    }).finally(() => {
      progress.stop()
      signals.release()
    })
    process.exitCode = report.exit === EXIT.done ? (signals.exit ?? EXIT.done) : report.exit
    this.log(backfillText(report))
    return report
  }
}
