import { Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { countsAsJson, stageArgs, stageFlags } from '../cli/stage-flags.ts'
import { runStage, tellCounts } from '../cli/stage-io.ts'
import { extractStage } from '../runtime/extract-stage.ts'

export default class Extract extends BaseCommand {
  static override summary = 'Read the sources of a job and write their records as NDJSON.'
  static override description =
    `Reads from the beginning and leaves checkpoint and lock alone. Records of NDJSON and JSON sources pass as they
are, malformed ones too, so that validate can refuse them. CSV records become objects of text; Parquet keeps every value
exact. A record that is no object, such as a CSV line with a field too many, passes as a JSON string of its text, or goes to
the file of --rejects. A source that cannot be read is told on stderr, and its exit code comes at the end.`
  static override examples = [
    {
      description: 'The whole job as a pipe; the result is that of `adflow run`',
      command:
        '<%= config.bin %> extract JOB | <%= config.bin %> validate JOB | <%= config.bin %> transform JOB | <%= config.bin %> load JOB',
    },
    { description: 'Look at ten records', command: '<%= config.bin %> <%= command.id %> quickstart --limit 10' },
  ]
  static override enableJsonFlag = false
  static override args = { job: stageArgs.job }
  static override flags = {
    source: Flags.string({
      multiple: true,
      helpValue: 'ID',
      description: 'Read only this source (may be repeated). Default: all, highest priority first.',
    }),
    limit: Flags.integer({ min: 0, helpValue: 'N', description: 'At most so many records.' }),
    rejects: stageFlags.rejects,
    quiet: stageFlags.quiet,
    json: countsAsJson,
  }

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Extract)
    const job = await this.job(args.job)
    const common = { job, registry: await this.registry(), log: this.logger(flags) }
    const summary = await runStage(flags, (streams) =>
      extractStage({
        ...common,
        ...streams,
        ...(flags.source === undefined ? {} : { sources: flags.source }),
        ...(flags.limit === undefined ? {} : { limit: flags.limit }),
      }),
    )
    tellCounts(summary, flags)
  }
}
