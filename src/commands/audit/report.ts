import { Args, Flags } from '@oclif/core'
import { auditText } from '../../cli/audit-text.ts'
import { BaseCommand } from '../../cli/base-command.ts'
import { parseModified } from '../../cli/modified.ts'
import { type AuditReport, auditReport } from '../../runtime/audit-report.ts'

export default class AuditReportCommand extends BaseCommand {
  static override summary = 'Who did what to a job, and what it read and loaded day by day.'
  static override description =
    `Walks the hash chain first, then tells from the ledger alone: books and stores by day, what each rule took out, runs,
changes of the job between runs (job file, variables, secrets, reference data, versions), and every other event: state changes, recoveries,
gaps, rules that stopped a batch, dead letters. Days and times are UTC. Reads only, and may stand beside a running job.`
  static override examples = [
    { description: 'Everything', command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml' },
    {
      description: 'A month, as Markdown to be filed',
      command: '<%= config.bin %> <%= command.id %> quickstart --from 2026-03-01 --to 2026-04-01 --format markdown',
    },
    {
      description: 'The last day, as JSON',
      command: '<%= config.bin %> <%= command.id %> quickstart --from 24h --json',
    },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    from: Flags.string({
      helpValue: 'TIME',
      description: 'Only what happened at or after this time: RFC 3339, a date, or an age such as 24h.',
    }),
    to: Flags.string({ helpValue: 'TIME', description: 'Only what happened before this time.' }),
    format: Flags.option({
      options: ['table', 'markdown', 'json'] as const,
      default: 'table',
      description: 'How it is printed; json is the same as --json.',
    })(),
  }

  async run(): Promise<AuditReport> {
    const { args, flags } = await this.parse(AuditReportCommand)
    const job = await this.job(args.job)
    const report = await auditReport({
      job,
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      registry: await this.registry(),
      log: this.logger(flags),
      ...parseModified(flags.from, flags.to).modified,
    })
    this.log(flags.format === 'json' ? JSON.stringify(report, null, 2) : auditText(report, flags.format))
    return report
  }
}
