import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { lintText } from '../cli/lint-text.ts'
import { AdflowError, EXIT } from '../core/errors.ts'
import { findJob, jobFiles } from '../core/job/find.ts'
import { type LintReport, lintJobs } from '../runtime/lint.ts'

export default class Lint extends BaseCommand {
  static override summary = 'Check job files: every mistake at its line, with what was probably meant.'
  static override description =
    `Reads no data and writes nothing. SQL is checked by the engine itself against the columns that really arrive at each
step. Exit 78 when there are mistakes. Warnings: personal columns that reach a store unmasked, state without a bound, stores that take
a batch twice, types that a format cannot hold; with --strict they exit 10.`
  static override examples = [
    { description: 'All of ./jobs', command: '<%= config.bin %> <%= command.id %>' },
    {
      description: 'One file; warnings are errors; state sized for 20,000 records a second',
      command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --strict --rate 20000',
    },
    { description: 'For an editor or CI', command: '<%= config.bin %> <%= command.id %> --json' },
  ]
  static override strict = false
  static override args = {
    job: Args.string({ description: 'Job files, or names of jobs in ./jobs. Default: every job there.' }),
  }
  static override flags = {
    strict: Flags.boolean({ description: 'Exit 10 when there are warnings.' }),
    rate: Flags.integer({
      default: 1000,
      min: 1,
      helpValue: 'N',
      description: 'Records per second for which the size of state is estimated.',
    }),
  }

  async run(): Promise<LintReport> {
    const { argv, flags } = await this.parse(Lint)
    const files = await this.#files(argv.map(String))
    const report = await lintJobs(files, {
      registry: await this.registry(),
      log: this.logger(flags),
      rate: flags.rate,
    })
    if (report.files.some(({ problems }) => problems.length > 0)) process.exitCode = EXIT.config
    else if (flags.strict && report.files.some(({ warnings }) => warnings.length > 0)) process.exitCode = EXIT.warnings
    this.log(lintText(report))
    return report
  }

  async #files(named: readonly string[]): Promise<readonly string[]> {
    const cwd = process.cwd()
    if (named.length > 0) return Promise.all(named.map((path) => findJob({ path, cwd })))
    const found = await jobFiles(cwd)
    const inFolder = found.filter((file) => /^jobs[/\\]/.test(file))
    if (found.length === 0)
      throw new AdflowError('JOB_NOT_FOUND', `there are no job files in ${cwd}`, {
        hint: 'name one, or make a project with `adflow init`',
      })
    return inFolder.length > 0 ? inFolder : found
  }
}
