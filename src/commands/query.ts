import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { ROW_FORMATS, rowsText } from '../cli/rows-text.ts'
import { AdflowError } from '../core/errors.ts'
import { openBrowser } from '../runtime/browse.ts'

export default class Query extends BaseCommand {
  static override summary = 'SQL over what a job has made: warehouse tables, quarantine, ledger.'
  static override description =
    `DuckDB SQL, read-only. Tables: those of each duckdb store (also as <store>.<schema>.<table>), quarantine, and
the ledger as ledger, events, batches, runs, gaps, conservation. The database file must not be open in a running job. Where the hash chain of
the ledger does not hold, its tables are refused (exit 78); the others can be asked all the same.`
  static override examples = [
    {
      description: 'Spend by campaign',
      command:
        '<%= config.bin %> <%= command.id %> "select campaign_id, sum(spend) from events group by 1 order by 2 desc limit 10" --job quickstart',
    },
    {
      description: 'Why records were quarantined',
      command:
        '<%= config.bin %> <%= command.id %> "select rule, count(*) from quarantine group by 1" --job quickstart --format markdown',
    },
    {
      description: 'Do the books close?',
      command: '<%= config.bin %> <%= command.id %> "from conservation" --job quickstart --json',
    },
  ]
  static override args = { sql: Args.string({ required: true, description: 'One SELECT.' }) }
  static override flags = {
    job: Flags.string({
      char: 'j',
      helpValue: 'JOB',
      description: 'Job file, or the name of a job in ./jobs. Default: the only job there is.',
    }),
    format: Flags.option({ options: ROW_FORMATS, default: 'table', description: 'How rows are printed.' })(),
  }

  async run(): Promise<{ schema_version: 1; columns: string[]; types: string[]; rows: unknown[] }> {
    const { args, flags } = await this.parse(Query)
    const job = await this.job(flags.job)
    const browser = await openBrowser(
      job,
      await this.currentStateDir(flags['state-dir'], job),
      await this.registry(),
      this.logger(flags),
      { withoutLedger: true },
    )
    try {
      const result = await browser.session.jsonRows(args.sql).catch((error: unknown) => {
        const closed = Object.entries(browser.closed).map(([id, why]) => `${id}: ${why}`)
        if (
          error instanceof AdflowError &&
          browser.damaged !== undefined &&
          error.message.includes(browser.damaged.message)
        )
          throw browser.damaged
        if (error instanceof AdflowError && error.code === 'ENGINE_FAILED')
          throw new AdflowError(
            'USAGE',
            error.message,
            closed.length === 0 ? {} : { hint: `not open: ${closed.join('; ')}` },
          )
        throw error
      })
      this.log(rowsText(result, flags.format))
      const rows = result.rows.map((row) =>
        Object.fromEntries(result.columns.map((name, index) => [name, row[index] ?? null])),
      )
      return { schema_version: 1, columns: result.columns, types: result.types, rows }
    } finally {
      browser.close()
    }
  }
}
