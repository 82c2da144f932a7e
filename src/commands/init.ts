import { relative } from 'node:path'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { integer } from '../cli/table.ts'
import { type InitResult, initProject } from '../init/project.ts'

export default class Init extends BaseCommand {
  static override summary = 'Make a job project that runs at once, or draft a job from a file.'
  static override description =
    `Writes jobs/<name>.yaml, the JSON Schema for editors, .gitignore, README.md and, without --from, sample data.
With --from the contract is drafted from the file: every type is tried on up to a million records under the casts of a run, so that
a run over them rejects nothing; what was seen stands beside each column. In a project that exists it adds a job. Nothing is
overwritten.`
  static override examples = [
    { description: 'A project on sample data', command: '<%= config.bin %> <%= command.id %> my-ads' },
    {
      description: 'Draft a job from a file',
      command: '<%= config.bin %> <%= command.id %> --from exports/clicks.csv.gz --name clicks',
    },
  ]
  static override args = {
    dir: Args.string({ default: '.', description: 'Folder of the project; made where it is missing.' }),
  }
  static override flags = {
    from: Flags.string({
      helpValue: 'FILE',
      description: 'NDJSON, JSON, CSV, TSV or Parquet; .gz and .zst too. The job reads it where it is.',
    }),
    name: Flags.string({
      char: 'n',
      helpValue: 'NAME',
      description: 'Name of the job. Default: after the file or the folder.',
    }),
  }

  async run(): Promise<InitResult> {
    const { args, flags } = await this.parse(Init)
    const result = await initProject({
      registry: await this.registry(),
      dir: args.dir,
      ...(flags.from === undefined ? {} : { from: flags.from }),
      ...(flags.name === undefined ? {} : { name: flags.name }),
    })
    const { job, created, kept, dir, records } = result
    for (const file of created) this.log(`  + ${file}`)
    for (const file of kept) this.log(`    ${file} (kept as it is)`)
    if (records !== null) this.log(`\nThe contract fits all ${integer(records)} records that were looked at.`)
    const folder = relative(process.cwd(), dir)
    this.log(`\nNext:\n${folder === '' ? '' : `  cd ${folder}\n`}  adflow lint\n  adflow run --job ${job}`)
    return result
  }
}
