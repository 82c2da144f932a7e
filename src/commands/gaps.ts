import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { gapsText } from '../cli/gaps-text.ts'
import { roundFlags, roundLimits } from '../cli/round-flags.ts'
import { runForPeople } from '../cli/run-job.ts'
import { AdflowError } from '../core/errors.ts'
import { openBrowser } from '../runtime/browse.ts'
import { type OpenGapStatus, openGapList } from '../runtime/gaps.ts'
import type { RunSummary } from '../runtime/summary.ts'

interface GapsReport {
  readonly schema_version: 1
  readonly job: string
  /** Those that were open when the command began. */
  readonly gaps: readonly OpenGapStatus[]
  /** The run that collected them; null where nothing was to be done. */
  readonly run?: RunSummary | null
}

export default class Gaps extends BaseCommand {
  static override summary = 'What sources still owe: gaps that are open, and collecting them now.'
  static override description =
    `A gap is a part of a source that could not be read. Every run asks for it again, so that most close by
themselves; --collect does it at once, and reads only the sources that have gaps. Its exit code is that of a run.`
  static override examples = [
    { description: 'The only job in ./jobs', command: '<%= config.bin %> <%= command.id %>' },
    {
      description: 'Collect now what is missing of one source',
      command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --collect --source ad_server',
    },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    collect: Flags.boolean({ description: 'Read the sources that have open gaps, now.' }),
    source: Flags.string({
      multiple: true,
      helpValue: 'SOURCE',
      description: 'Only gaps of this source (may be repeated).',
    }),
    ...roundFlags,
    quiet: Flags.boolean({ char: 'q', description: 'No progress and no summary.' }),
  }

  async run(): Promise<GapsReport> {
    const { args, flags } = await this.parse(Gaps)
    const job = await this.job(args.job)
    const stateDir = await this.currentStateDir(flags['state-dir'], job)
    const registry = await this.registry()
    const log = this.logger(flags)
    const browser = await openBrowser(job, stateDir, registry, log, { stores: false })
    const all = await openGapList(job, browser).finally(() => browser.close())
    const unknown = flags.source?.find(
      (id) => !job.extract.some((source) => source.id === id) && !all.some(({ source }) => source === id),
    )
    if (unknown !== undefined)
      throw new AdflowError('USAGE', `--source ${unknown}: the job has no such source`, {
        hint: `sources: ${job.extract.map(({ id }) => id).join(', ')}`,
      })
    const gaps = all.filter(({ source }) => flags.source?.includes(source) ?? true)
    if (!flags.collect) {
      this.log(gapsText(job.name, gaps))
      return { schema_version: 1, job: job.name, gaps }
    }
    const only = job.extract.map(({ id }) => id).filter((id) => gaps.some(({ source }) => source === id))
    if (only.length === 0) {
      this.log(gapsText(job.name, gaps))
      return { schema_version: 1, job: job.name, gaps, run: null }
    }
    const run = await runForPeople(
      {
        ...{ job, registry, stateDir, log, only },
        command: this.commandLine,
        version: this.config.version,
        ...roundLimits(flags),
      },
      {
        quiet: flags.quiet,
        json: this.jsonEnabled(),
        log: (text) => this.log(text),
        fail: (error) => void this.catch(error),
      },
    )
    return { schema_version: 1, job: job.name, gaps, run }
  }
}
