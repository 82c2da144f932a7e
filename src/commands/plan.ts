import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { planText, sqlText } from '../cli/plan-text.ts'
import { type JobPlan, planJob } from '../runtime/plan.ts'

export default class Plan extends BaseCommand {
  static override summary = 'What a run would do, on what, and what each path promises.'
  static override description =
    `Takes no lock, reads no data and writes nothing: it may stand beside a running job. Shows what is left of each source, the
columns after each step with their types and what they are made of, the rules, what each path from a source to a store guarantees,
and what is owed to stores.`
  static override examples = [
    { description: 'The only job in ./jobs', command: '<%= config.bin %> <%= command.id %>' },
    { description: 'One job, as JSON', command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --json' },
    { description: 'The SQL of its chain', command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --sql' },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    sql: Flags.boolean({ description: 'Print the SQL that a batch goes through.' }),
  }

  async run(): Promise<JobPlan> {
    const { args, flags } = await this.parse(Plan)
    const job = await this.job(args.job)
    const plan = await planJob({
      job,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
    })
    this.log(flags.sql ? sqlText(plan) : planText(plan))
    return plan
  }
}
