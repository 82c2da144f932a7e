import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { lineageMermaid, lineageText } from '../cli/lineage-text.ts'
import { type JobLineage, jobLineage } from '../runtime/job-lineage.ts'

export default class Lineage extends BaseCommand {
  static override summary = 'Where the columns of a job come from and where they go.'
  static override description =
    `Data sets and columns from sources and reference data over the contract and the steps to stores and consumers, from the
job file alone: nothing is read. Columns that show personal data are marked. With --run the figures of that run stand beside.`
  static override examples = [
    { description: 'As tables', command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml' },
    {
      description: 'A flow chart for a document',
      command: '<%= config.bin %> <%= command.id %> quickstart --format mermaid',
    },
    {
      description: 'What a column is made of, step by step, and what depends on it',
      command: '<%= config.bin %> <%= command.id %> quickstart --column spend',
    },
    {
      description: 'Only the column of one store, with the figures of the last run',
      command: '<%= config.bin %> <%= command.id %> quickstart --column warehouse.spend --run last --json',
    },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    format: Flags.option({
      options: ['table', 'mermaid', 'json'] as const,
      default: 'table',
      description: 'How it is printed; json is the same as --json.',
    })(),
    column: Flags.string({
      helpValue: 'COLUMN',
      description: 'Only what this column depends on and what depends on it: a name, or `<node>.<column>`.',
    }),
    run: Flags.string({ helpValue: 'RUN', description: 'Id of a run, or `last`: its figures.' }),
  }

  async run(): Promise<JobLineage> {
    const { args, flags } = await this.parse(Lineage)
    const job = await this.job(args.job)
    const lineage = await jobLineage({
      job,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
      ...(flags.column === undefined ? {} : { column: flags.column }),
      ...(flags.run === undefined ? {} : { run: flags.run }),
    })
    if (flags.format === 'json') this.log(JSON.stringify(lineage, null, 2))
    else this.log(flags.format === 'mermaid' ? lineageMermaid(lineage) : lineageText(lineage))
    return lineage
  }
}
