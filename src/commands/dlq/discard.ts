import { Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { chosenLetters, letterArgs, letterFlags } from '../../cli/letter-flags.ts'
import { integer } from '../../cli/table.ts'
import { whoIsThis } from '../../core/who.ts'
import { changeLetters, type LettersChanged } from '../../distribute/dead-letters.ts'

export default class DlqDiscard extends BaseCommand {
  static override summary = 'Give dead letters up for good. Audited, with a reason.'
  static override examples = [
    {
      description: 'One of them',
      command:
        '<%= config.bin %> <%= command.id %> JOB billing_9f86d081884c7d659a2feaa0c55ad015_17 --reason "test account"',
    },
    {
      description: 'All of a consumer that is no more',
      command: '<%= config.bin %> <%= command.id %> JOB --consumer billing --reason "partner has left"',
    },
  ]
  static override args = letterArgs
  static override flags = {
    ...letterFlags,
    all: Flags.boolean({ description: 'All of them.' }),
    reason: Flags.string({ required: true, description: 'Why: kept in the ledger.' }),
  }

  async run(): Promise<LettersChanged> {
    const { args, flags } = await this.parse(DlqDiscard)
    const job = await this.job(args.job)
    const changed = await changeLetters({
      ...chosenLetters(args.ids, flags),
      job,
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      command: this.commandLine,
      who: whoIsThis(),
      what: 'discarded',
      reason: flags.reason,
    })
    for (const [consumer, ids] of Object.entries(changed.letters))
      this.log(`${consumer}: ${integer(ids.length)} dead letters discarded`)
    this.log(changed.count === 0 ? 'no dead letters match' : 'written to the ledger')
    return changed
  }
}
