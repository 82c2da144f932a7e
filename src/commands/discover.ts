import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { discoverText } from '../cli/discover-text.ts'
import type { DiscoveredSource } from '../core/discovery.ts'
import { AdflowError, ERROR_CODES } from '../core/errors.ts'
import { parseDuration } from '../core/job/units.ts'
import { discoverAddress, discoverJob, sourceFrom } from '../init/discover-sources.ts'

interface DiscoverResult {
  readonly schema_version: 1
  readonly sources: readonly DiscoveredSource[]
}

export default class Discover extends BaseCommand {
  static override summary =
    'What sources offer: tables, topics, indexes, objects, files, metrics, methods, lists of an API.'
  static override description =
    `Asks a system by its address, by a type of extractor with options, or all sources of a job. Changes nothing and reads no record, but for one answer of an HTTP API: where its records stand and how it leads to the next page is seen there. Numbers are
what the system says, which may be an estimate. The options of each offer, shown by --json, are those with which a job reads it;
\`adflow init --from\` drafts such a job.`
  static override examples = [
    {
      description: 'Tables of a database',
      command: "<%= config.bin %> <%= command.id %> 'postgres://reader@db.example/ads' --set 'password=${PGPASSWORD}'",
    },
    {
      description: 'Metrics of Prometheus that are about money',
      command: '<%= config.bin %> <%= command.id %> prometheus+https://prometheus.example --match spend',
    },
    { description: 'Objects of a bucket', command: '<%= config.bin %> <%= command.id %> s3 --set bucket=ads --json' },
    { description: 'All sources of a job', command: '<%= config.bin %> <%= command.id %> --job jobs/quickstart.yaml' },
  ]
  static override args = {
    from: Args.string({
      description:
        'Address: https://, postgres://, clickhouse://, s3://, sftp://, kafka://, elasticsearch://, prometheus://, grpc:// (scheme+https:// where that is meant); or a type of extractor; or a file pattern.',
    }),
  }
  static override flags = {
    job: Flags.string({
      helpValue: 'JOB',
      description: 'Job file, or the name of a job in ./jobs: its sources are asked.',
    }),
    set: Flags.string({
      multiple: true,
      helpValue: 'OPTION=VALUE',
      description: 'Option of the extractor; the value is YAML. May be given several times.',
    }),
    match: Flags.string({ helpValue: 'TEXT', description: 'Only what has this text in its name.' }),
    limit: Flags.integer({ min: 1, default: 1000, description: 'At most so many of each source.' }),
    timeout: Flags.string({ default: '30s', helpValue: 'DURATION', description: 'How long each source may take.' }),
  }

  async run(): Promise<DiscoverResult> {
    const { args, flags } = await this.parse(Discover)
    const timeoutMs = parseDuration(flags.timeout)
    if (timeoutMs === undefined || timeoutMs === 0)
      throw new AdflowError('USAGE', `--timeout ${flags.timeout} is no duration`, { hint: 'such as 5s or 1m' })
    if ((args.from === undefined) === (flags.job === undefined))
      throw new AdflowError('USAGE', 'give either an address, or a job', { hint: 'such as --job jobs/ads.yaml' })
    const registry = await this.registry()
    const asked = { registry, log: this.logger(flags), timeoutMs, limit: flags.limit, match: flags.match }
    const job = flags.job === undefined ? undefined : await this.job(flags.job)
    const sources =
      job === undefined
        ? [
            await discoverAddress(sourceFrom(args.from ?? '', flags.set ?? [], registry), {
              ...asked,
              baseDir: process.cwd(),
            }),
          ]
        : await discoverJob(job, { ...asked, baseDir: job.baseDir })
    const failed = sources.find(({ error }) => error !== null)?.error
    if (failed) process.exitCode = ERROR_CODES[failed.code].exit
    this.log(discoverText(sources))
    return { schema_version: 1, sources }
  }
}
