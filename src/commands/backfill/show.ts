import { Args } from '@oclif/core'
import { backfillDetailText } from '../../cli/backfill-text.ts'
import { BaseCommand } from '../../cli/base-command.ts'
import { type BackfillDetail, backfillDetail } from '../../reconcile/backfill-status.ts'

export default class BackfillShow extends BaseCommand {
  static override summary = 'Show one backfill: its ranges, and which of them are done.'
  static override examples = [
    '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml last',
    '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml 019abc --json',
  ]
  static override args = {
    job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
    backfill: Args.string({ default: 'last', description: 'Id, the beginning of one, or `last`.' }),
  }

  async run(): Promise<BackfillDetail> {
    const { args, flags } = await this.parse(BackfillShow)
    const job = await this.job(args.job)
    const stateDir = await this.currentStateDir(flags['state-dir'], job)
    const detail = await backfillDetail(job, stateDir, await this.registry(), this.logger(flags), args.backfill)
    this.log(backfillDetailText(detail))
    return detail
  }
}
