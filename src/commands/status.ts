import { Args } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { statusText } from '../cli/status-text.ts'
import { openBrowser } from '../runtime/browse.ts'
import { type JobStatus, jobStatus } from '../runtime/status.ts'

export default class Status extends BaseCommand {
  static override summary = 'Where a job stands: positions, debts, last runs, and whether its books close.'
  static override examples = [
    { description: 'The only job in ./jobs', command: '<%= config.bin %> <%= command.id %>' },
    { description: 'As JSON', command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --json' },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }

  async run(): Promise<JobStatus> {
    const { args, flags } = await this.parse(Status)
    const job = await this.job(args.job)
    const stateDir = await this.currentStateDir(flags['state-dir'], job)
    const browser = await openBrowser(job, stateDir, await this.registry(), this.logger(flags), { stores: false })
    try {
      const status = await jobStatus(job, stateDir, browser)
      this.log(statusText(status))
      return status
    } finally {
      browser.close()
    }
  }
}
