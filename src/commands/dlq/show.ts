import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { findLetter } from '../../distribute/dead-letters.ts'
import type { DeadLetter, Letter } from '../../distribute/letters.ts'

type ShownLetter = { readonly schema_version: 1 } & DeadLetter & Pick<Letter, 'state'>

export default class DlqShow extends BaseCommand {
  static override summary = 'One dead letter, whole: why it died, and its body as it was sent.'
  static override examples = [
    '<%= config.bin %> <%= command.id %> JOB billing_9f86d081884c7d659a2feaa0c55ad015_17',
    '<%= config.bin %> <%= command.id %> JOB billing_9f86d081884c7d659a2feaa0c55ad015_17 --json',
  ]
  static override args = {
    job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
    id: Args.string({ required: true, description: 'Id of the dead letter.' }),
  }

  async run(): Promise<ShownLetter> {
    const { args, flags } = await this.parse(DlqShow)
    const job = await this.job(args.job)
    const letter = await findLetter(job, await this.currentStateDir(flags['state-dir'], job), args.id)
    const { consumer, state, reason, attempts, first_at, last_at, rows, keys, attributes, token } = letter
    this.log(`${letter.id}: ${state}, for ${consumer}`)
    this.log(`  ${reason}`)
    this.log(`  ${attempts} ${attempts === 1 ? 'attempt' : 'attempts'}, ${first_at} to ${last_at}`)
    this.log(`  rows ${rows} of batch ${token}${keys.length === 0 ? '' : `, keys ${keys.join(', ')}`}`)
    for (const [name, value] of Object.entries(attributes)) this.log(`  ${name}: ${value}`)
    this.log(`\n${letter.body}`)
    return { schema_version: 1, ...letter }
  }
}
