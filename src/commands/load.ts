import { Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { stageArgs, stageFlags } from '../cli/stage-flags.ts'
import { runStage, stageInputs } from '../cli/stage-io.ts'
import { stageText } from '../cli/stage-text.ts'
import { loadStage } from '../runtime/load-stage.ts'
import type { StageSummary } from '../runtime/stage-summary.ts'

export default class Load extends BaseCommand {
  static override summary = 'Load rows, as transform writes them, into the stores of a job.'
  static override description =
    `Reads standard input or files. Each piece of resources.chunk bytes is one batch, named by its content and place:
loading the same rows again changes nothing, so after a failure simply run the pipe again. A store that fails does not hold up
the others, and the command ends with its exit code. For a loader with \`write: replace\` the rows are collected on disk first.`
  static override examples = [
    {
      description: 'The end of a pipe',
      command: '<%= config.bin %> transform quickstart rows.ndjson | <%= config.bin %> <%= command.id %> quickstart',
    },
    {
      description: 'Into one store only',
      command: '<%= config.bin %> <%= command.id %> quickstart final.ndjson --to warehouse --json',
    },
  ]
  static override args = stageArgs
  static override flags = {
    to: Flags.string({
      multiple: true,
      helpValue: 'ID',
      description: 'Load only into this store (may be repeated). Default: all that load the output.',
    }),
    output: Flags.string({
      helpValue: 'ID',
      description: 'Output that the rows are of. Default: that of the stores named, else main.',
    }),
    ...stageFlags,
  }

  async run(): Promise<StageSummary | undefined> {
    const { args, flags } = await this.parse(Load)
    const job = await this.job(args.job)
    const common = { job, registry: await this.registry(), log: this.logger(flags) }
    const summary = await runStage(flags, async (streams) =>
      loadStage({
        ...common,
        ...streams,
        inputs: await stageInputs(args.files ?? [], streams.signal),
        ...(flags.to === undefined ? {} : { to: flags.to }),
        ...(flags.output === undefined ? {} : { output: flags.output }),
      }),
    )
    if (summary !== undefined && !flags.quiet) this.log(stageText(summary))
    return summary
  }
}
