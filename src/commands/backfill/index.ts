import { Args, Flags } from '@oclif/core'
import { backfillProgress, backfillText } from '../../cli/backfill-text.ts'
import { BaseCommand } from '../../cli/base-command.ts'
import { parseModified } from '../../cli/modified.ts'
import { catchSignals } from '../../cli/signals.ts'
import { AdflowError, EXIT } from '../../core/errors.ts'
import { whoIsThis } from '../../core/who.ts'
import { type BackfillReport, startBackfill } from '../../reconcile/backfill.ts'

export default class Backfill extends BaseCommand {
  static override summary = 'Load a part of the past: for the first time, or again where stores have lost it.'
  static override description =
    `Compares sources, ledger and stores, plans what is not there, and loads exactly that: batches that a store has lost go into
that store, as their run had made them; ranges that no run has read go into all stores. What is there is not loaded again. The checkpoint is
left alone. The first SIGINT or SIGTERM pauses the backfill; after that, and after a kill, \`adflow backfill resume\` goes on.`
  static override examples = [
    {
      description: 'What would be loaded of the files of one day, and how long it would take',
      command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --from 2026-03-01 --to 2026-03-02 --dry-run',
    },
    {
      description: 'Bring back what stores have lost, of all that was ever loaded',
      command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --missing',
    },
    {
      description: 'Only some files, into one store',
      command:
        '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --missing --lane "*events-0001*" --store archive',
    },
  ]
  static override args = {
    job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
  }
  static override flags = {
    from: Flags.string({
      helpValue: 'TIME',
      description: 'Files that were modified at or after this time: RFC 3339, a date, or an age such as 24h.',
    }),
    to: Flags.string({ helpValue: 'TIME', description: 'Files that were modified before this time.' }),
    missing: Flags.boolean({
      description: 'Only what runs have passed already; files that no run has begun are left to the next run.',
    }),
    source: Flags.string({ multiple: true, helpValue: 'SOURCE', description: 'Only this source (may be repeated).' }),
    lane: Flags.string({
      multiple: true,
      helpValue: 'PATTERN',
      description: 'Only lanes (files) of this name; `*` stands for anything (may be repeated).',
    }),
    store: Flags.string({
      multiple: true,
      helpValue: 'STORE',
      description: 'Bring batches back to this store only (may be repeated).',
    }),
    recreate: Flags.boolean({ description: 'Load everything anew into a store whose file or folder is gone.' }),
    'dry-run': Flags.boolean({ description: 'Only say what would be loaded, and how long it would take.' }),
  }

  async run(): Promise<BackfillReport> {
    const { args, flags } = await this.parse(Backfill)
    const { from, to, missing, source: sources, lane: lanes, store: stores } = flags
    if (!missing && from === undefined && to === undefined && sources === undefined && lanes === undefined)
      throw new AdflowError('USAGE', 'which part of the past?', {
        hint: 'give --from and --to, --source or --lane; or --missing for all that was loaded once and is gone',
      })
    const job = await this.job(args.job)
    const unknown = sources?.find((id) => !job.extract.some((source) => source.id === id))
    if (unknown !== undefined)
      throw new AdflowError('USAGE', `--source ${unknown}: the job has no such source`, {
        hint: `sources: ${job.extract.map(({ id }) => id).join(', ')}`,
      })
    const progress = backfillProgress(!this.jsonEnabled())
    const signals = catchSignals((error) => void this.catch(error))
    const report = await startBackfill({
      job,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
      command: this.commandLine,
      version: this.config.version,
      who: whoIsThis(),
      drain: signals.drain,
      observer: progress,
      recreate: flags.recreate,
      dryRun: flags['dry-run'],
      selection: {
        missing,
        ...parseModified(from, to),
        ...(sources === undefined ? {} : { sources }),
        ...(lanes === undefined ? {} : { lanes }),
        ...(stores === undefined ? {} : { stores }),
      },
    }).finally(() => {
      progress.stop()
      signals.release()
    })
    process.exitCode = report.exit === EXIT.done ? (signals.exit ?? EXIT.done) : report.exit
    this.log(backfillText(report))
    return report
  }
}
