import { BaseCommand } from '../cli/base-command.ts'
import { countsAsJson, stageArgs, stageFlags } from '../cli/stage-flags.ts'
import { runStage, stageInputs, tellCounts } from '../cli/stage-io.ts'
import { validateStage } from '../runtime/stages.ts'

export default class Validate extends BaseCommand {
  static override summary =
    'Check NDJSON records by the contract and rules of a job; write the good ones as typed rows.'
  static override description =
    `Reads standard input or files. Rows leave under the contract's column names, every value exact: decimals as text,
timestamps in ISO 8601 UTC. Refused records are counted by rule, and kept where --rejects says. Rules over batches see each
piece of resources.chunk bytes as one batch.`
  static override examples = [
    {
      description: 'What would be refused, and why?',
      command: '<%= config.bin %> <%= command.id %> quickstart events.ndjson --rejects refused.ndjson > /dev/null',
    },
    {
      description: 'Fail a build over bad data',
      command:
        '<%= config.bin %> extract quickstart --limit 1000 | <%= config.bin %> <%= command.id %> quickstart --strict > rows.ndjson',
    },
  ]
  static override enableJsonFlag = false
  static override args = stageArgs
  static override flags = { ...stageFlags, json: countsAsJson }

  async run(): Promise<void> {
    const { args, flags } = await this.parse(Validate)
    const job = await this.job(args.job)
    const common = { job, registry: await this.registry(), log: this.logger(flags) }
    const summary = await runStage(flags, async (streams) =>
      validateStage({ ...common, ...streams, inputs: await stageInputs(args.files ?? [], streams.signal) }),
    )
    tellCounts(summary, flags)
  }
}
