import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { clientFlags, clientOf, reasonFlag } from '../../cli/daemon-flags.ts'
import { whoIsThis } from '../../core/who.ts'

interface Triggered {
  readonly job: string
  readonly slot: string
}

export default class DaemonTrigger extends BaseCommand {
  static override summary = 'Ask the daemon for a run of a job, now. Audited.'
  static override description = 'The run waits for one of the same job that goes on. A paused job is run all the same.'
  static override examples = ['<%= config.bin %> <%= command.id %> quickstart --reason "files came late"']
  static override args = { name: Args.string({ required: true, description: 'Name of the job.' }) }
  static override flags = { ...clientFlags, ...reasonFlag }

  async run(): Promise<Triggered> {
    const { args, flags } = await this.parse(DaemonTrigger)
    const client = await clientOf(flags)
    const answer = await client.post<Triggered>(`/api/v1/jobs/${encodeURIComponent(args.name)}/trigger`, {
      who: whoIsThis(),
      why: flags.reason,
    })
    this.log(`asked for ${answer.slot}`)
    return answer
  }
}
