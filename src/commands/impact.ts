import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { impactText } from '../cli/impact-text.ts'
import { AdflowError } from '../core/errors.ts'
import { type Impact as Impacted, impactOf } from '../trace/impact.ts'

export default class Impact extends BaseCommand {
  static override summary = 'From records of a source to what came of them: rows in every store, quarantine, filter.'
  static override description =
    `The inverse of \`adflow trace\`. The batches that hold the records are repeated by the job as it was in their runs; nothing is
loaded or changed. For each record it tells the rows that the stores have of it, the later batch that replaced them (write:
merge), the entry of the quarantine, or the rule or step that took it out. Bytes are those of the decompressed file; a record
counts when one of its bytes is in the range. --line and --record look through the whole file.
Exit 0: told. 11: a store lacks a row that it was given. 65: bytes of the source are gone or changed. 69: a store is down.`
  static override examples = [
    {
      description: 'What came of this line?',
      command: '<%= config.bin %> <%= command.id %> quickstart --file data/events-0001.ndjson --line 4711',
    },
    {
      description: 'And of the records of a damaged range?',
      command: '<%= config.bin %> <%= command.id %> quickstart --file data/events-0001.ndjson --bytes 1000-9000 --json',
    },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    file: Flags.string({
      aliases: ['lane'],
      helpValue: 'PATH',
      description: 'File, or name of the lane: all its records, or those of --bytes, --line, --record.',
    }),
    bytes: Flags.string({ helpValue: 'A-B', description: 'From byte A up to, not including, B.', dependsOn: ['file'] }),
    line: Flags.integer({ min: 1, description: 'The record at this line, from 1; Parquet: row.', dependsOn: ['file'] }),
    record: Flags.string({ helpValue: 'TEXT', description: 'Records with exactly these bytes.' }),
    limit: Flags.integer({ min: 1, default: 1000, description: 'Most records.' }),
  }

  async run(): Promise<Impacted> {
    const { args, flags } = await this.parse(Impact)
    const { file, line, record, limit } = flags
    if (file === undefined && record === undefined)
      throw new AdflowError('USAGE', 'which records?', {
        hint: 'give --file PATH for all of a file, with --bytes A-B or --line N for a part of it, or --record TEXT',
      })
    const job = await this.job(args.job)
    const impact = await impactOf({
      job,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
      env: process.env,
      signal: new AbortController().signal,
      cwd: process.cwd(),
      limit,
      ...(file === undefined ? {} : { file }),
      ...(flags.bytes === undefined ? {} : { bytes: parseBytes(flags.bytes) }),
      ...(line === undefined ? {} : { line }),
      ...(record === undefined ? {} : { record }),
    })
    this.log(impactText(impact))
    process.exitCode = impact.exit
    return impact
  }
}

function parseBytes(text: string): { from: number; to: number } {
  const [, from, to] = /^(\d{1,15})-(\d{1,15})$/.exec(text) ?? []
  if (from !== undefined && to !== undefined && Number(from) < Number(to)) return { from: Number(from), to: Number(to) }
  throw new AdflowError('USAGE', `${text} is not a range of bytes`, { hint: 'write --bytes 1000-2000' })
}
