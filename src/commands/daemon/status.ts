import { BaseCommand } from '../../cli/base-command.ts'
import { clientFlags, clientOf } from '../../cli/daemon-flags.ts'
import { type DaemonReport, daemonText } from '../../cli/daemon-text.ts'
import { daemonReport } from '../../daemon/client.ts'

export default class DaemonStatus extends BaseCommand {
  static override summary =
    'What the daemon does: who leads, each job with its next time, the last runs, files with mistakes.'
  static override examples = [
    { description: 'Of the jobs in ./jobs', command: '<%= config.bin %> <%= command.id %>' },
    { description: 'As JSON', command: '<%= config.bin %> <%= command.id %> --state-dir /var/lib/adflow --json' },
  ]
  static override flags = { ...clientFlags }

  async run(): Promise<DaemonReport> {
    const { flags } = await this.parse(DaemonStatus)
    const report = await daemonReport(await clientOf(flags))
    this.log(daemonText(report, Date.now()))
    return report
  }
}
