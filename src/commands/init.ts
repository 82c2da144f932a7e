import { relative } from 'node:path'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { integer } from '../cli/table.ts'
import { type InitResult, initProject } from '../init/project.ts'

export default class Init extends BaseCommand {
  static override summary = 'Make a job project that runs at once, or draft a job from a file or another source.'
  static override description =
    `Writes jobs/<name>.yaml, the JSON Schema for editors, .gitignore, README.md and, without --from, sample data.
With --from the contract is drafted from the file, or from the first records of the source with that address: every type is tried on up to a million
records under the casts of a run, so that a run over them rejects nothing; what was seen stands beside each column. A password of the address
becomes a variable. Where the address names no table, topic or metric, it must offer one only; adflow discover lists them. In a project that exists it adds a job. Nothing is
overwritten.`
  static override examples = [
    { description: 'A project on sample data', command: '<%= config.bin %> <%= command.id %> my-ads' },
    {
      description: 'Draft a job from a file',
      command: '<%= config.bin %> <%= command.id %> --from exports/clicks.csv.gz --name clicks',
    },
    {
      description: 'Draft a job from a table',
      command:
        "<%= config.bin %> <%= command.id %> --from 'postgres://reader@db.example/ads' --set table=public.events --set cursor=[updated_at]",
    },
  ]
  static override args = {
    dir: Args.string({ default: '.', description: 'Folder of the project; made where it is missing.' }),
  }
  static override flags = {
    from: Flags.string({
      helpValue: 'FILE|ADDRESS',
      description:
        'NDJSON, JSON, CSV, TSV or Parquet, .gz and .zst too: the job reads it where it is. Or an address, as `adflow discover` and the extractor http take it.',
    }),
    set: Flags.string({
      multiple: true,
      helpValue: 'OPTION=VALUE',
      description:
        'Option of the extractor beside what the address says; the value is YAML. May be given several times.',
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
      ...(flags.set === undefined ? {} : { set: flags.set }),
      log: this.logger(flags),
    })
    const { job, created, kept, dir, records, variables } = result
    for (const file of created) this.log(`  + ${file}`)
    for (const file of kept) this.log(`    ${file} (kept as it is)`)
    if (records !== null) this.log(`\nThe contract fits all ${integer(records)} records that were looked at.`)
    if (variables.length > 0) this.log(`Set before a run: ${variables.join(', ')}`)
    const folder = relative(process.cwd(), dir)
    this.log(`\nNext:\n${folder === '' ? '' : `  cd ${folder}\n`}  adflow lint\n  adflow run --job ${job}`)
    return result
  }
}
