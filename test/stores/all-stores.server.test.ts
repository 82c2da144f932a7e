/** One job into every store at once: each holds every record once, and to run it again changes nothing. */
import { cpSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { RunSummary } from '../../src/runtime/summary.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { duckdbRows } from '../harness/engine.ts'
import {
  freshBucket,
  freshClickHouseDatabase,
  freshDatabase,
  freshFolder,
  freshIndexes,
  freshKeys,
  freshName,
} from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SmallJob } from '../harness/small-job.ts'
import {
  pairsOfClickHouse,
  pairsOfKafka,
  pairsOfOpenSearch,
  pairsOfPostgres,
  pairsOfRedis,
  pairsOfS3,
  pairsOfSftp,
  parquetOf,
} from '../harness/stored-pairs.ts'

const ROWS = process.env['ADFLOW_TEST_LONG'] === '1' ? 1_000_000 : 30_000
const FILES = 4
const FIRST_ID = 9_007_199_254_740_993n

await serverSuite(
  'a job into every store',
  ['postgres', 'clickhouse', 'redis', 's3', 'sftp', 'kafka', 'opensearch'],
  ({ postgres, clickhouse, redis, s3, sftp, kafka, opensearch }) => {
    it(`${ROWS} records: counts, sums and digests agree everywhere, also behind a state that was put back, and the same command again changes nothing`, async () => {
      const folder = temporaryFolder('all-stores')
      await using database = await freshDatabase(postgres)
      await using tables = await freshClickHouseDatabase(clickhouse)
      await using keys = await freshKeys(redis)
      await using bucket = await freshBucket(s3)
      await using upload = await freshFolder(sftp)
      await using index = await freshIndexes(opensearch)
      const topic = freshName('all')
      const login = new URL(sftp.url)
      login.pathname = ''
      const job = new SmallJob(
        folder.path,
        jobOf({
          duckdb: { type: 'duckdb', path: 'warehouse.duckdb', table: 'events' },
          files: { type: 'files', format: 'parquet', path: 'archive' },
          postgres: { type: 'postgres', url: database.url, table: 'events' },
          clickhouse: { type: 'clickhouse', url: tables.url, table: 'events' },
          redis: { type: 'redis', url: redis.url, prefix: keys.prefix, key: "'event:' || id" },
          s3: {
            type: 's3',
            endpoint: s3.url,
            access_key_id: s3.accessKeyId,
            secret_access_key: s3.secretAccessKey,
            bucket: bucket.name,
            prefix: 'events',
            format: 'parquet',
          },
          sftp: {
            type: 'sftp',
            url: login.href.replace(/\/$/, ''),
            private_key: sftp.privateKey,
            known_hosts: sftp.knownHosts,
            path: upload.path,
            format: 'parquet',
          },
          kafka: { type: 'kafka', brokers: kafka.brokers, topic },
          elasticsearch: { type: 'elasticsearch', url: opensearch.url, index: index.name },
        }),
      )
      const copy = join(folder.path, 'copy')
      job.put('data/0.ndjson', linesOf(0))
      expect((await job.run()).code).toBe(0)
      cpSync(job.state, copy, { recursive: true })
      // The end of the last file comes later.
      const [last, end] = [FILES - 1, linesOf(FILES - 1).length / 2]
      for (let file = 1; file < last; file += 1) job.put(`data/${file}.ndjson`, linesOf(file))
      job.put(`data/${last}.ndjson`, linesOf(last).slice(0, linesOf(last).indexOf('\n', end) + 1))

      const held = async (): Promise<Readonly<Record<string, unknown>>> => {
        const to = temporaryFolder('held')
        const pairs: Readonly<Record<string, string | Promise<string>>> = {
          duckdb: 'SELECT id, micros FROM w.events',
          files: parquetOf(join(folder.path, 'archive')),
          postgres: pairsOfPostgres(database.url, 'events', to.path),
          clickhouse: pairsOfClickHouse(tables.url, 'events', to.path),
          redis: pairsOfRedis(redis.url, `${keys.prefix}event:`, to.path),
          s3: pairsOfS3(s3, bucket.name, 'events', to.path),
          sftp: pairsOfSftp(sftp, upload.path, to.path),
          kafka: pairsOfKafka(kafka.brokers, topic, to.path),
          elasticsearch: pairsOfOpenSearch(opensearch.url, index.name, to.path),
        }
        const digests: [string, unknown][] = []
        for (const [name, select] of Object.entries(pairs))
          digests.push([name, (await digest(await select, folder.path))[0]])
        to.remove()
        return Object.fromEntries(digests)
      }

      const first = (await job.run()).json<RunSummary>()
      expect(first, JSON.stringify(first)).toMatchObject({ exit: 0, unaccounted: 0 })
      // The state of before is put back, and the file has grown meanwhile: it would be cut otherwise, if the stores were not asked.
      rmSync(job.state, { recursive: true })
      cpSync(copy, job.state, { recursive: true })
      job.put(`data/${last}.ndjson`, linesOf(last))
      const behind = (await job.run()).json<RunSummary>()
      expect(behind, JSON.stringify(behind)).toMatchObject({ exit: 0, read: ROWS - ROWS / FILES, unaccounted: 0 })
      expect(behind.warnings.join()).toContain('batches ahead of the checkpoint')
      const rest = behind.read - first.read
      expect(rest).toBeGreaterThan(0)
      expect(Object.values(behind.stores).map(({ loaded }) => loaded)).toEqual(
        Object.keys(first.stores).map(() => rest),
      )
      const [expected] = await digest(
        `SELECT (i + ${FIRST_ID})::BIGINT AS id, (i * 1000003 + ${FIRST_ID})::BIGINT AS micros FROM range(${ROWS}) t(i)`,
        folder.path,
      )
      const everywhere = Object.fromEntries(Object.keys(first.stores).map((name) => [name, expected]))
      expect(await held()).toEqual(everywhere)

      const second = (await job.run()).json<RunSummary>()
      expect(second).toMatchObject({ exit: 0, read: 0 })
      // And where the positions were lost: every store refuses what it has.
      expect(
        (await job.command(['state', 'rewind', job.file, 'input', '--reason', 'the positions were lost'])).code,
      ).toBe(0)
      const third = (await job.run()).json<RunSummary>()
      expect(third).toMatchObject({ exit: 0, unaccounted: 0 })
      expect(Object.values(third.stores).map(({ loaded }) => loaded)).toEqual(Object.keys(first.stores).map(() => 0))
      expect(await held()).toEqual(everywhere)
      folder.remove()
    }, 1_800_000)
  },
)

function jobOf(loads: Readonly<Record<string, unknown>>): string {
  return `version: 1
name: rows
extract:
  input: { type: files, path: "data/*", settle: 0s }
contract:
  columns: { id: { type: bigint, required: true }, n: integer, micros: bigint, name: varchar }
load: ${JSON.stringify(loads)}
resources: { chunk: ${Math.round((ROWS * 75) / FILES / 2)}B }
`
}

function linesOf(file: number): string {
  const rows = ROWS / FILES
  const lines = Array.from({ length: rows }, (_, row) => {
    const at = BigInt(file * rows + row)
    return `{"id":${FIRST_ID + at},"n":${at % 7n},"micros":${at * 1_000_003n + FIRST_ID},"name":"name ${at}"}`
  })
  return `${lines.join('\n')}\n`
}

/** Of pairs in any order. */
function digest(select: string, folder: string): Promise<Record<string, unknown>[]> {
  return duckdbRows(
    `SELECT count(*) AS rows, count(DISTINCT id) AS ids, sum(micros) AS micros, sum(hash(id, micros)::HUGEINT) AS digest FROM (${select})`,
    [`ATTACH IF NOT EXISTS '${join(folder, 'warehouse.duckdb')}' AS w (READ_ONLY)`],
  )
}
