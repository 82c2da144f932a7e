import { Args } from '@oclif/core'
import { backfillsText } from '../../cli/backfill-text.ts'
import { BaseCommand } from '../../cli/base-command.ts'
import { type BackfillStatus, backfillStatuses } from '../../reconcile/backfill-status.ts'

export default class BackfillList extends BaseCommand {
  static override summary = 'List the backfills of a job: what each was to load, and what has come of it.'
  static override examples = ['<%= config.bin %> <%= command.id %> jobs/quickstart.yaml']
  static override args = {
    job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
  }

  async run(): Promise<{ schema_version: 1; job: string; backfills: readonly BackfillStatus[] }> {
    const { args, flags } = await this.parse(BackfillList)
    const job = await this.job(args.job)
    const stateDir = await this.currentStateDir(flags['state-dir'], job)
    const backfills = await backfillStatuses(job, stateDir)
    this.log(backfillsText(backfills))
    return { schema_version: 1, job: job.name, backfills }
  }
}
