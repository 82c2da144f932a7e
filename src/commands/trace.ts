import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { parseKeys } from '../cli/key-flags.ts'
import { quarantineText } from '../cli/quarantine-text.ts'
import { traceText } from '../cli/trace-text.ts'
import { traceRows } from '../trace/trace.ts'
import { type QuarantineTrace, traceQuarantine } from '../trace/trace-quarantine.ts'
import type { Trace as Traced } from '../trace/trace-result.ts'

export default class Trace extends BaseCommand {
  static override summary = 'From a row of a store to its record: file, bytes, line, batch, run, rules and steps.'
  static override description =
    `A row knows its batch, and the ledger knows the place of the batch. The batch is repeated by the job as it was in that run (job file,
variables and reference data are pinned; secrets are those of today), and the row is found among its rows: each batch once, however
many rows are asked for. Nothing is loaded or changed. Byte offsets are those of the decompressed file. Rows of a set-wise output
(aggregate) are led to the records of their group; where a step does not say what makes a group, to the batch.
Exit 0: all were traced. 65: the bytes are gone or changed; the place is told. 11: the batch gives no such row, or the row
does not know its batch.`
  static override examples = [
    {
      description: 'Where does this row come from?',
      command: '<%= config.bin %> <%= command.id %> quickstart --key event_id=1000000000000000017',
    },
    {
      description: 'Rows by a condition, for a program',
      command: `<%= config.bin %> <%= command.id %> quickstart --where "spend > 1 and country = 'CN'" --limit 1000 --json`,
    },
    { description: 'A spot check', command: '<%= config.bin %> <%= command.id %> quickstart --sample 1000' },
    {
      description: 'Records that were refused',
      command: `<%= config.bin %> <%= command.id %> quickstart --quarantine --where "rule = 'late'"`,
    },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    where: Flags.string({
      helpValue: 'SQL',
      description: 'Condition over the columns of the store (with --quarantine: of the quarantine).',
    }),
    key: Flags.string({
      helpValue: 'COLUMN=VALUE',
      multiple: true,
      description: 'Rows with this value; may be repeated.',
    }),
    rows: Flags.string({
      helpValue: 'FILE',
      description: 'Rows that are in this CSV, NDJSON or Parquet file, by all of its columns.',
    }),
    sample: Flags.integer({ min: 1, description: 'So many rows at random.', exclusive: ['quarantine', 'limit'] }),
    store: Flags.string({
      helpValue: 'ID',
      description: 'Store that has the rows. Default: the first whose rows know their batches.',
    }),
    limit: Flags.integer({ min: 1, default: 100, description: 'Most rows.' }),
    quarantine: Flags.boolean({
      description: 'Among the refused records instead; they hold their place and bytes.',
      exclusive: ['store', 'rows'],
    }),
  }

  async run(): Promise<Traced | QuarantineTrace> {
    const { args, flags } = await this.parse(Trace)
    const { where, rows: rowsFile, sample, store, limit } = flags
    const job = await this.job(args.job)
    const options = {
      job,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
      env: process.env,
      signal: new AbortController().signal,
      keys: parseKeys(flags.key),
      limit,
      ...(where === undefined ? {} : { where }),
      ...(rowsFile === undefined ? {} : { rowsFile }),
      ...(sample === undefined ? {} : { sample }),
      ...(store === undefined ? {} : { store }),
    }
    if (flags.quarantine) {
      const refused = await traceQuarantine(options)
      this.log(quarantineText(refused))
      return refused
    }
    const trace = await traceRows(options)
    this.log(traceText(trace))
    process.exitCode = trace.exit
    return trace
  }
}
