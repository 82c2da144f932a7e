import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { diffText, verifyText } from '../cli/replay-text.ts'
import { AdflowError } from '../core/errors.ts'
import { type DiffReport, diffRun } from '../reconcile/replay-diff.ts'
import { type VerifyReport, verifyRun } from '../reconcile/replay-verify.ts'

export default class Replay extends BaseCommand {
  static override summary =
    'Repeat a run: does it give what the stores have, and what would another job give? Loads nothing.'
  static override description =
    `Each run is pinned: job file, variables, reference data, and the clock of each batch. --verify repeats it from these and compares
books and rows, batch by batch and store by store; exit 11 where they differ. --with takes the same input through another job file and
says which rows it adds, removes and changes. Steps with memory, such as \`dedupe\`, begin with none and see all batches before.`
  static override examples = [
    {
      description: 'Is what the last run has loaded what it would load again?',
      command: '<%= config.bin %> <%= command.id %> last --verify --job quickstart',
    },
    {
      description: 'What a changed job file would have given, and whose spend it moves',
      command:
        '<%= config.bin %> <%= command.id %> last --job quickstart --with jobs/quickstart.yaml --diff --key event_id --sum spend --by campaign_id --out moved.ndjson',
    },
  ]
  static override args = {
    run: Args.string({ required: true, description: 'Id of a run, the beginning of one, or `last`.' }),
  }
  static override flags = {
    job: Flags.string({ helpValue: 'JOB', description: 'Job file, or the name of a job in ./jobs.' }),
    verify: Flags.boolean({ exclusive: ['with'], description: 'Compare with the books and the stores.' }),
    with: Flags.string({ helpValue: 'FILE', description: 'Another job file for the same input.' }),
    diff: Flags.boolean({ dependsOn: ['with'], description: 'Say what differs; the default with --with.' }),
    store: Flags.string({ dependsOn: ['with'], description: 'Store whose rows are compared. Default: the first.' }),
    key: Flags.string({
      multiple: true,
      dependsOn: ['with'],
      helpValue: 'COLUMN',
      description: 'Column by which rows are matched (may be repeated). Default: the key of the store.',
    }),
    sum: Flags.string({
      multiple: true,
      dependsOn: ['with'],
      helpValue: 'COLUMN',
      description: 'Say how the sum of this column moves (may be repeated).',
    }),
    by: Flags.string({
      multiple: true,
      dependsOn: ['sum'],
      helpValue: 'COLUMN',
      description: 'Sums by this column (may be repeated).',
    }),
    out: Flags.string({
      dependsOn: ['with'],
      helpValue: 'FILE',
      description: 'Write all differing rows there: .ndjson, .csv or .parquet.',
    }),
    rows: Flags.integer({ default: 10, min: 0, description: 'Rows that are shown.' }),
  }

  async run(): Promise<VerifyReport | DiffReport> {
    const { args, flags } = await this.parse(Replay)
    if (!flags.verify && flags.with === undefined)
      throw new AdflowError('USAGE', 'what is to be compared?', {
        hint: 'give --verify, or --with another job file',
      })
    const job = await this.job(flags.job)
    const { with: file, store, key, out, sum = [], by = [] } = flags
    const common = {
      job,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
      run: args.run,
      shown: flags.rows,
      signal: new AbortController().signal,
    }
    if (file === undefined) {
      const report = await verifyRun({ ...common, version: this.config.version })
      process.exitCode = report.exit
      this.log(verifyText(report))
      return report
    }
    const report = await diffRun({
      ...common,
      other: await this.job(file),
      sum,
      by,
      ...(store === undefined ? {} : { store }),
      ...(key === undefined ? {} : { key }),
      ...(out === undefined ? {} : { out }),
    })
    process.exitCode = report.exit
    this.log(diffText(report))
    return report
  }
}
