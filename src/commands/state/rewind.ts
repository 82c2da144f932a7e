import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { whoIsThis } from '../../core/who.ts'
import { changeState, type StateChange } from '../../runtime/change-state.ts'

export default class StateRewind extends BaseCommand {
  static override summary = 'Put the lanes of a source back, so that the next run reads them again. Audited.'
  static override description =
    'Without --reload this is safe at any time: stores recognise the batches that they have and refuse them. --reload is refused while a store is owed what it would bring again.'
  static override examples = [
    '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml ad_server --reason "check that nothing doubles"',
    '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml ad_server --reload --reason "table was emptied"',
  ]
  static override args = {
    job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
    source: Args.string({ required: true, description: 'Id of the source.' }),
  }
  static override flags = {
    reason: Flags.string({ required: true, description: 'Why: kept in the ledger.' }),
    lane: Flags.string({ description: 'Only this lane. Default: all lanes of the source.' }),
    to: Flags.string({ default: '0', helpValue: 'POSITION', description: 'Edge of a batch; 0 is the beginning.' }),
    reload: Flags.boolean({ description: 'Raise the epoch: stores load the ranges again instead of refusing them.' }),
    force: Flags.boolean({
      description: 'Allow a position that is not the edge of a batch, and --reload while other lanes are under way.',
    }),
  }

  async run(): Promise<StateChange> {
    const { args, flags } = await this.parse(StateRewind)
    const job = await this.job(args.job)
    const change = await changeState({
      job,
      stateDir: this.stateDir(flags['state-dir'], job),
      command: this.commandLine,
      who: whoIsThis(),
      source: args.source,
      reason: flags.reason,
      to: flags.to,
      reload: flags.reload,
      force: flags.force,
      ...(flags.lane === undefined ? {} : { lane: flags.lane }),
    })
    for (const [lane, { before, after }] of Object.entries(change.lanes))
      this.log(`${change.source} ${lane}: ${before ?? 'nothing'} → ${after}`)
    this.log(`epoch ${change.epoch}; written to the ledger`)
    return change
  }
}
