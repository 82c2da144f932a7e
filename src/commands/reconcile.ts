import { userInfo } from 'node:os'
import { createInterface } from 'node:readline/promises'
import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { parseModified } from '../cli/modified.ts'
import { reconcileText } from '../cli/reconcile-text.ts'
import { AdflowError } from '../core/errors.ts'
import { parseDuration } from '../core/job/units.ts'
import type { KindCounts } from '../reconcile/differences.ts'
import { reconcile } from '../reconcile/reconcile.ts'
import type { Reconciliation } from '../reconcile/report.ts'

export default class Reconcile extends BaseCommand {
  static override summary = 'Compare stores with their sources, or with one another, to the row; heal what differs.'
  static override description =
    `Sources are read and refined once more as in a run, and nothing of it is loaded. Each side counts and digests itself, per bucket
of time or key; only buckets that differ are looked into, down to the rows. Compared is what the ledger says is loaded: what is not loaded
yet, or owed, is said apart. Defaults stand in the job's \`reconcile\` block. Ends with 11 while differences are left.`
  static override examples = [
    { description: 'Is everything where it should be?', command: '<%= config.bin %> <%= command.id %> quickstart' },
    {
      description: 'Put in what is missing, from the source',
      command: '<%= config.bin %> <%= command.id %> quickstart --against warehouse --heal missing',
    },
    {
      description: 'Two stores, one day, with the rows in a file',
      command:
        '<%= config.bin %> <%= command.id %> quickstart --store archive --against warehouse --from 2026-03-01 --to 2026-03-02 --out differences.ndjson',
    },
  ]
  static override args = {
    job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
  }
  static override flags = {
    source: Flags.string({ helpValue: 'ID', description: 'Only what came from this source.' }),
    store: Flags.string({ helpValue: 'ID', description: 'Compare this store, instead of the sources.' }),
    against: Flags.string({
      helpValue: 'ID',
      description: 'The store that is checked, and healed. Default: each store.',
    }),
    from: Flags.string({ helpValue: 'TIME', description: 'Rows from this time on, or of this age: 2026-03-01, 24h.' }),
    to: Flags.string({ helpValue: 'TIME', description: 'Rows before this time.' }),
    by: Flags.option({ options: ['time', 'key'] as const, description: 'What buckets are made of.' })(),
    column: Flags.string({ helpValue: 'NAME', description: 'Time column. Default: the first with a time or a date.' }),
    bucket: Flags.string({ helpValue: 'DURATION', description: 'Width of a bucket by time, such as 1h.' }),
    key: Flags.string({ multiple: true, helpValue: 'NAME', description: 'Column by which a row is found again.' }),
    sum: Flags.string({ multiple: true, helpValue: 'NAME', description: 'Column to sum per bucket.' }),
    heal: Flags.option({
      options: ['none', 'missing', 'all'] as const,
      description: 'missing: put in what the store lacks; all: correct and remove too.',
    })(),
    yes: Flags.boolean({ char: 'y', description: 'Do not ask before rows are changed or removed.' }),
    out: Flags.string({ helpValue: 'FILE', description: 'All differing rows: .ndjson, .csv or .parquet.' }),
    limit: Flags.integer({ default: 20, min: 0, max: 100_000, description: 'Rows that are printed.' }),
  }

  async run(): Promise<Reconciliation> {
    const { args, flags } = await this.parse(Reconcile)
    const job = await this.job(args.job)
    const { reconcile: defaults } = job
    const heal = flags.heal ?? defaults.heal
    if (heal === 'all' && !flags.yes && !process.stdin.isTTY)
      throw new AdflowError('USAGE', '--heal all changes and removes rows: without a terminal to ask on it needs --yes')
    const result = await reconcile({
      job,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
      command: this.commandLine,
      who: userInfo().username,
      ...(flags.source === undefined ? {} : { source: flags.source }),
      ...(flags.store === undefined ? {} : { store: flags.store }),
      ...(flags.against === undefined ? {} : { against: flags.against }),
      wishes: {
        by: flags.by ?? defaults.by,
        column: flags.column ?? defaults.column,
        widthMs: flags.bucket === undefined ? defaults.windowMs : width(flags.bucket),
        key: flags.key ?? defaults.key,
        sums: flags.sum ?? defaults.sum,
        settleMs: defaults.settleMs,
        ...parseModified(flags.from, flags.to).modified,
      },
      compare: defaults.compare,
      heal,
      confirm: async (store, found) => flags.yes || ask(store, found),
      ...(flags.out === undefined ? {} : { out: flags.out }),
      limit: flags.limit,
      signal: new AbortController().signal,
    })
    this.log(reconcileText(result))
    process.exitCode = result.exit
    return result
  }
}

function width(text: string): number {
  const ms = parseDuration(text)
  if (ms !== undefined && ms > 0) return ms
  throw new AdflowError('USAGE', `--bucket ${text} is not a duration`, { hint: 'write 15m, 1h or 1d' })
}

async function ask(store: string, found: KindCounts): Promise<boolean> {
  const lines = createInterface({ input: process.stdin, output: process.stderr })
  const counts = Object.entries(found).map(([kind, count]) => `${count} ${kind}`)
  const answer = await lines.question(`heal ${store}: ${counts.join(', ')}? [y/N] `)
  lines.close()
  return /^y(es)?$/i.test(answer.trim())
}
