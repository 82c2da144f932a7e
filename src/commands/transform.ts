import { Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { countsAsJson, stageArgs, stageFlags } from '../cli/stage-flags.ts'
import { runStage, stageInputs, tellCounts } from '../cli/stage-io.ts'
import { transformStage } from '../runtime/stages.ts'

export default class Transform extends BaseCommand {
  static override summary = 'Run the steps of a job over validated rows; write what comes out as NDJSON.'
  static override description =
    `Reads rows as validate writes them, from standard input or files. dedupe remembers for the length of the stream.
Rows that are not of the contract end the command with exit 65, unless --rejects takes them out. Aggregates are made for
each piece of resources.chunk bytes, as a run makes them for each batch.`
  static override examples = [
    {
      description: 'See what the steps make of a few records',
      command:
        '<%= config.bin %> extract quickstart --limit 10 | <%= config.bin %> validate quickstart | <%= config.bin %> <%= command.id %> quickstart',
    },
    {
      description: 'Another output than the end of the chain',
      command: '<%= config.bin %> <%= command.id %> jobs/spend.yaml rows.ndjson --output spend_by_campaign',
    },
  ]
  static override enableJsonFlag = false
  static override args = stageArgs
  static override flags = {
    output: Flags.string({
      helpValue: 'ID',
      description: 'Step whose output is written. Default: main, the end of the chain.',
    }),
    ...stageFlags,
    json: countsAsJson,
  }

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Transform)
    const job = await this.job(args.job)
    const common = { job, registry: await this.registry(), log: this.logger(flags) }
    const output = flags.output === undefined ? {} : { output: flags.output }
    const summary = await runStage(flags, async (streams) =>
      transformStage({ ...common, ...streams, ...output, inputs: await stageInputs(args.files ?? [], streams.signal) }),
    )
    tellCounts(summary, flags)
  }
}
