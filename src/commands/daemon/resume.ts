import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { clientFlags, clientOf, reasonFlag } from '../../cli/daemon-flags.ts'
import { whoIsThis } from '../../core/who.ts'

export default class DaemonResume extends BaseCommand {
  static override summary = 'Let a paused job go on. Audited.'
  static override description = 'From the next time on.'
  static override examples = ['<%= config.bin %> <%= command.id %> quickstart --reason "the store has moved"']
  static override args = { name: Args.string({ required: true, description: 'Name of the job.' }) }
  static override flags = { ...clientFlags, ...reasonFlag }

  async run(): Promise<object> {
    const { args, flags } = await this.parse(DaemonResume)
    const client = await clientOf(flags)
    const answer = await client.post<object>(`/api/v1/jobs/${encodeURIComponent(args.name)}/resume`, {
      who: whoIsThis(),
      why: flags.reason,
    })
    this.log(`${args.name} is resumed`)
    return answer
  }
}
