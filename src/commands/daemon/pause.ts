import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { clientFlags, clientOf, reasonFlag } from '../../cli/daemon-flags.ts'
import { whoIsThis } from '../../core/who.ts'

export default class DaemonPause extends BaseCommand {
  static override summary = 'Let no time of a job have a run, until it is resumed. Audited.'
  static override description =
    'What runs is not stopped. Times that come meanwhile are passed over, and not made up for.'
  static override examples = ['<%= config.bin %> <%= command.id %> quickstart --reason "the store is moved"']
  static override args = { name: Args.string({ required: true, description: 'Name of the job.' }) }
  static override flags = { ...clientFlags, ...reasonFlag }

  async run(): Promise<object> {
    const { args, flags } = await this.parse(DaemonPause)
    const client = await clientOf(flags)
    const answer = await client.post<object>(`/api/v1/jobs/${encodeURIComponent(args.name)}/pause`, {
      who: whoIsThis(),
      why: flags.reason,
    })
    this.log(`${args.name} is paused`)
    return answer
  }
}
