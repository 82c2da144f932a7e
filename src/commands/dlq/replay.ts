import { Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { chosenLetters, letterArgs, letterFlags } from '../../cli/letter-flags.ts'
import { integer } from '../../cli/table.ts'
import { whoIsThis } from '../../core/who.ts'
import { changeLetters, type LettersChanged } from '../../distribute/dead-letters.ts'

export default class DlqReplay extends BaseCommand {
  static override summary = 'Send dead letters to their consumers again, under the same ids. Audited.'
  static override description =
    'They are put back into the queue, before what waits there; the next run or `distribute` sends them.'
  static override examples = [
    {
      description: 'One of them',
      command: '<%= config.bin %> <%= command.id %> JOB billing_9f86d081884c7d659a2feaa0c55ad015_17',
    },
    {
      description: 'All that a consumer refused with 422, after it was mended',
      command: '<%= config.bin %> <%= command.id %> JOB --consumer billing --matching "answered 422"',
    },
  ]
  static override args = letterArgs
  static override flags = {
    ...letterFlags,
    all: Flags.boolean({ description: 'All of them.' }),
    reason: Flags.string({ description: 'Why: kept in the ledger.' }),
  }

  async run(): Promise<LettersChanged> {
    const { args, flags } = await this.parse(DlqReplay)
    const job = await this.job(args.job)
    const changed = await changeLetters({
      ...chosenLetters(args.ids, flags),
      job,
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      command: this.commandLine,
      who: whoIsThis(),
      what: 'replayed',
      ...(flags.reason === undefined ? {} : { reason: flags.reason }),
    })
    for (const [consumer, ids] of Object.entries(changed.letters))
      this.log(`${consumer}: ${integer(ids.length)} dead letters wait for it again`)
    if (changed.count === 0) this.log('no dead letters match')
    else this.log(`written to the ledger; \`adflow distribute ${args.job}\` sends them`)
    return changed
  }
}
