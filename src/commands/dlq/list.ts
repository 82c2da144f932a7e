import { Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { lettersTable } from '../../cli/consumers-text.ts'
import { letterArgs, letterFilter, letterFlags } from '../../cli/letter-flags.ts'
import { integer } from '../../cli/table.ts'
import { listLetters } from '../../distribute/dead-letters.ts'
import type { Letter } from '../../distribute/letters.ts'

interface LetterList {
  readonly schema_version: 1
  readonly job: string
  /** All that match, also those beyond --limit. */
  readonly count: number
  readonly letters: readonly Letter[]
}

export default class DlqList extends BaseCommand {
  static override summary = 'Dead letters of a job: what its consumers did not take, and why.'
  static override description =
    'Works while a run is going on. `queued` letters were sent back and wait for their consumer.'
  static override examples = [
    { description: 'All of them', command: '<%= config.bin %> <%= command.id %> JOB' },
    {
      description: 'Of one consumer, with a text in the reason',
      command: '<%= config.bin %> <%= command.id %> JOB --consumer billing --matching "answered 422" --json',
    },
  ]
  static override args = letterArgs
  static override flags = {
    ...letterFlags,
    limit: Flags.integer({ default: 100, min: 1, description: 'At most so many.' }),
  }

  async run(): Promise<LetterList> {
    const { args, flags } = await this.parse(DlqList)
    const job = await this.job(args.job)
    const stateDir = await this.currentStateDir(flags['state-dir'], job)
    const found = await listLetters(job, stateDir, letterFilter(args.ids, flags))
    const letters = found.slice(0, flags.limit)
    this.log(found.length === 0 ? 'no dead letters' : lettersTable(letters))
    if (found.length > letters.length)
      this.log(`… and ${integer(found.length - letters.length)} more (--limit shows them)`)
    return { schema_version: 1, job: job.name, count: found.length, letters }
  }
}
