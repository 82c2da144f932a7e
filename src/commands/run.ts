import { readFile } from 'node:fs/promises'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { parseModified } from '../cli/modified.ts'
import { roundFlags, roundLimits } from '../cli/round-flags.ts'
import { runForPeople } from '../cli/run-job.ts'
import { AdflowError } from '../core/errors.ts'
import type { Job } from '../core/job/job.ts'
import { readJobText } from '../core/job/load.ts'
import type { RunOptions } from '../runtime/run.ts'
import { shardState } from '../runtime/shard-checks.ts'
import { parseTicket } from '../runtime/slot.ts'
import type { RunSummary } from '../runtime/summary.ts'
import { prepareWorkshop } from '../runtime/workshop.ts'

export default class Run extends BaseCommand {
  static override summary = 'Run a job once: read what is new, check, transform, load, close the books.'
  static override description =
    `Reads every source from where the last run stopped to its present end. A run that was killed is
simply run again: nothing is lost and nothing is loaded twice. The first SIGINT or SIGTERM stops reading, finishes what is under
way and saves the checkpoint; the second ends at once (exit 75).

Sources are read at the same time. One that fails, or gives nothing for its time-out, is a gap: the others are loaded, and the
next run, or \`adflow gaps --collect\`, goes on where it stopped.`
  static override examples = [
    { description: 'Run a job file', command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml' },
    {
      description: 'Run the job of that name in ./jobs, result as JSON',
      command: '<%= config.bin %> <%= command.id %> --job quickstart --json',
    },
    {
      description: 'Only one source, only files modified since yesterday',
      command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --only ad_server --from 24h',
    },
    {
      description: 'Say what would be read, and do nothing',
      command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --dry-run',
    },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    job: Flags.string({ helpValue: 'NAME', description: 'Name of the job in ./jobs.' }),
    only: Flags.string({
      multiple: true,
      helpValue: 'SOURCE',
      description: 'Read only this source (may be repeated). The others stay where they are.',
    }),
    from: Flags.string({
      helpValue: 'TIME',
      description: 'Only files modified at or after this time: RFC 3339, a date, or an age such as 24h.',
    }),
    to: Flags.string({ helpValue: 'TIME', description: 'Only files modified before this time.' }),
    until: Flags.option({
      options: ['now', 'forever'] as const,
      helpValue: 'WHEN',
      description: 'Where the run ends, whatever the job file says: `now`, or `forever` (with a signal).',
    })(),
    shard: Flags.string({
      helpValue: 'I/N',
      description: 'Run part I (from 0) of a job with `stream.shards: N`. `adflow daemon` runs all of them.',
    }),
    ...roundFlags,
    'dry-run': Flags.boolean({ description: 'Print the plan and read nothing.' }),
    strict: Flags.boolean({ description: 'Exit 10 when records were quarantined or a rule warned.' }),
    slot: Flags.string({ hidden: true, description: 'What the daemon says about a scheduled time.' }),
    text: Flags.string({ hidden: true, description: 'The job file as the daemon has accepted it.' }),
    quiet: Flags.boolean({ char: 'q', description: 'No progress and no summary.' }),
  }

  async run(): Promise<RunSummary | object> {
    const { args, flags } = await this.parse(Run)
    if (!flags['dry-run']) prepareWorkshop()
    const job =
      flags.text === undefined ? await this.job(args.job, flags.job) : await this.accepted(args.job, flags.text)
    const unknown = flags.only?.find((id) => !job.extract.some((source) => source.id === id))
    if (unknown !== undefined)
      throw new AdflowError('USAGE', `--only ${unknown}: the job has no such source`, {
        hint: `sources: ${job.extract.map(({ id }) => id).join(', ')}`,
      })
    const stateDir = shardState(this.stateDir(flags['state-dir'], job), job, flags.shard)
    const given = flags.shard === undefined ? flags['state-dir'] : stateDir
    if (flags['dry-run'])
      return this.config.runCommand('plan', [
        job.file,
        ...(given === undefined ? [] : ['--state-dir', given]),
        ...(this.jsonEnabled() ? ['--json'] : []),
      ])
    return runForPeople(
      {
        job,
        registry: await this.registry(),
        stateDir,
        log: this.logger(flags),
        command: this.commandLine,
        version: this.config.version,
        ...(flags.only === undefined ? {} : { only: flags.only }),
        ...(flags.until === undefined ? {} : { until: flags.until }),
        ...(flags.slot === undefined ? {} : this.slotOf(flags.slot)),
        ...parseModified(flags.from, flags.to),
        ...roundLimits(flags),
      },
      {
        quiet: flags.quiet,
        json: this.jsonEnabled(),
        strict: flags.strict,
        log: (text) => this.log(text),
        fail: (error) => void this.catch(error),
      },
    )
  }

  private slotOf(text: string): Pick<RunOptions, 'slot' | 'daemons'> {
    const daemons = this.place
    return { slot: parseTicket(text), ...(daemons === undefined ? {} : { daemons }) }
  }

  /** Paths in the text are relative to the file, which somebody may be editing at this moment. */
  private async accepted(file: string | undefined, text: string): Promise<Job> {
    if (file === undefined) throw new AdflowError('USAGE', '--text needs the job file that it is of')
    return this.placed(await readJobText(await readFile(text, 'utf8'), file, { registry: await this.registry() }))
  }
}
