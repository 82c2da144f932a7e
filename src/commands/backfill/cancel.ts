import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { whoIsThis } from '../../core/who.ts'
import { cancelBackfill } from '../../reconcile/backfill.ts'

export default class BackfillCancel extends BaseCommand {
  static override summary = 'Give a backfill up: what it has loaded stays, the rest is not loaded. Audited.'
  static override description =
    'One that is being worked on is paused first, by SIGINT or SIGTERM to its process: the message names it.'
  static override examples = ['<%= config.bin %> <%= command.id %> jobs/quickstart.yaml last']
  static override args = {
    job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
    backfill: Args.string({ required: true, description: 'Id, the beginning of one, or `last`.' }),
  }

  async run(): Promise<object> {
    const { args, flags } = await this.parse(BackfillCancel)
    const job = await this.job(args.job)
    const { id, status } = await cancelBackfill({
      job,
      id: args.backfill,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
      command: this.commandLine,
      version: this.config.version,
      who: whoIsThis(),
      drain: new AbortController().signal,
    })
    this.log(`backfill ${id} is cancelled; written to the ledger`)
    return { schema_version: 1, job: job.name, backfill: id, status }
  }
}
