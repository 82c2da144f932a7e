import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { whoIsThis } from '../../core/who.ts'
import { changeState, type StateChange } from '../../runtime/change-state.ts'

export default class StateSet extends BaseCommand {
  static override summary = 'Set the position of one lane by hand. Audited.'
  static override description =
    'The next run reads on from there. Under the same epoch stores refuse the batches that they have.'
  static override examples = [
    '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml ad_server events-0001.ndjson 0 --reason "file was replaced"',
  ]
  static override args = {
    job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
    source: Args.string({ required: true, description: 'Id of the source.' }),
    lane: Args.string({ required: true, description: 'Lane, as `adflow state show` prints it.' }),
    position: Args.string({ required: true, description: 'Position: 0 is the beginning.' }),
  }
  static override flags = {
    reason: Flags.string({ required: true, description: 'Why: kept in the ledger.' }),
    force: Flags.boolean({
      description: 'Allow a position that is not the edge of a batch: stores cannot refuse what is cut otherwise.',
    }),
  }

  async run(): Promise<StateChange> {
    const { args, flags } = await this.parse(StateSet)
    const job = await this.job(args.job)
    const change = await changeState({
      job,
      stateDir: this.stateDir(flags['state-dir'], job),
      command: this.commandLine,
      who: whoIsThis(),
      source: args.source,
      reason: flags.reason,
      lane: args.lane,
      to: args.position,
      reload: false,
      force: flags.force,
    })
    for (const [lane, { before, after }] of Object.entries(change.lanes))
      this.log(`${change.source} ${lane}: ${before ?? 'nothing'} → ${after}`)
    this.log(`epoch ${change.epoch}; written to the ledger`)
    return change
  }
}
