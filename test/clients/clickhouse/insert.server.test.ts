/** One batch, whatever breaks while it is on its way. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import clickhouse from '../../../src/loaders/clickhouse.ts'
import { onClickHouse } from '../../harness/clickhouse.ts'
import { cutAnswer, failing } from '../../harness/cut-answer.ts'
import { LoaderBench, newFolder, removeFolder } from '../../harness/loader.ts'
import { freshClickHouseDatabase } from '../../harness/servers/fresh.ts'
import { startPrivate } from '../../harness/servers/private.ts'
import { serverSuite } from '../../harness/servers/suite.ts'
import { proxyFor } from '../../harness/servers/toxics.ts'

type Options = Readonly<Record<string, unknown>>

const LONG = process.env['ADFLOW_TEST_LONG'] === '1'
const ROWS = "SELECT i::BIGINT AS id, 'name ' || i AS name FROM range(4) t(i)"
const VIEW = {
  name: 'summed',
  to: 'sums',
  query: 'SELECT assumeNotNull(id) % 7 AS k, count() AS n FROM {table} GROUP BY k',
  engine: 'SummingMergeTree',
  order_by: ['k'],
}

await serverSuite(
  'a batch on its way to ClickHouse',
  ['clickhouse', 'toxiproxy'],
  ({ clickhouse: server, toxiproxy }) => {
    let folder: string
    let bench: LoaderBench
    beforeEach(async () => {
      folder = newFolder()
      bench = await LoaderBench.open({ definition: clickhouse as never, folder, options: [] })
    })
    afterEach(() => {
      bench.close()
      removeFolder(folder)
    })

    const opened = (url: string, options: Options = {}, rows = ROWS) =>
      bench.open(bench.create({ url, table: 'events', materialized_views: [VIEW], ...options }), rows)
    const held = async (url: string) => {
      const [row] = await onClickHouse(
        url,
        'SELECT (SELECT count() FROM events) AS rows, (SELECT uniqExact(id, _batch) FROM events) AS ids, (SELECT sum(n) FROM sums) AS viewed',
      )
      return [Number(row?.['rows']), Number(row?.['ids']), Number(row?.['viewed'])]
    }

    it('is there once, in the table and behind its view, wherever the answers of the server are cut off', async () => {
      await using database = await freshClickHouseDatabase(server)
      await using proxy = await proxyFor(toxiproxy, database.url)
      const loader = await opened(proxy.url)
      const answers: string[] = []
      let at = 0
      for (let whole = false; !whole; at += 1) {
        const spec = { at, rows: ROWS }
        const bytes = 20 + at * (LONG ? 16 : 240)
        await proxy.down() // an answer counts from the beginning of its connection
        await proxy.up()
        const fate = await cutAnswer({ bench, loader, proxy }, bytes, spec, 4)
        answers.push(fate)
        expect(await held(database.url)).toEqual([4 * (at + 1), 4 * (at + 1), 4 * (at + 1)])
        whole = fate === 'whole'
      }
      expect(answers).toContain('lost')
      await loader.close()
    }, 120_000)

    it('is not there at all when its bytes are cut off on their way, and comes whole', async () => {
      await using database = await freshClickHouseDatabase(server)
      await using proxy = await proxyFor(toxiproxy, database.url)
      const rows = 'SELECT i::BIGINT AS id, md5(i::VARCHAR) AS name FROM range(50000) t(i)'
      // To adflow another machine: what goes there is compressed.
      const loader = await opened(proxy.url.replace('127.0.0.1', '[::ffff:127.0.0.1]'))
      for (const [at, bytes] of [20_000, 400_000].entries()) {
        const remove = await proxy.add({ type: 'limit_data', bytes }, 'upstream')
        expect(await failing(bench.write(loader, { rows, at }))).toMatchObject({
          code: 'STORE_UNAVAILABLE',
          retryable: true,
        })
        await remove()
        expect(await held(database.url)).toEqual([at * 50_000, at * 50_000, at * 50_000])
        await proxy.down()
        await proxy.up()
        expect(await bench.write(loader, { rows, at })).toMatchObject({ rows: 50_000, repeated: false })
      }
      expect(await held(database.url)).toEqual([100_000, 100_000, 100_000])
      await loader.close()
    }, 120_000)

    it(
      'is there once when the server is killed in the middle of it, and started again',
      async () => {
        await using own = await startPrivate('clickhouse')
        const { url } = own.endpoint
        const rows = 'SELECT i::BIGINT AS id, (i % 5)::INTEGER AS p FROM range(600000) t(i)'
        const loader = await opened(url, { partition_by: 'p' }, rows)
        const kills = LONG ? 40 : 2
        let caught = 0
        for (let at = 0; at < kills; at += 1) {
          const first = failing(bench.write(loader, { rows, at }))
          await sending(url)
          await new Promise((resolve) => setTimeout(resolve, (at * 400) / kills))
          await own.kill9()
          if ((await first) !== undefined) caught += 1
          await own.restart()
          expect(await bench.write(loader, { rows, at })).toMatchObject({ rows: 600_000 })
          expect(await held(url)).toEqual([600_000 * (at + 1), 600_000 * (at + 1), 600_000 * (at + 1)])
        }
        expect(caught).toBeGreaterThan(0)
        await loader.close()
      },
      LONG ? 1_200_000 : 240_000,
    )

    describe('a server that was killed between the note of a token and its part drops it when it comes again', () => {
      const rows = 'SELECT i::BIGINT AS id, (i % 3)::INTEGER AS p FROM range(300) t(i)'
      /** Parts that did not come, the first of them noted; what is there in the end, or what is said. */
      const LOST: readonly (readonly [string, Options, readonly string[], readonly number[] | string])[] = [
        ['the first of the table', {}, ['events 0', 'events 1', 'events 2', 'sums all'], [300, 300, 300]],
        ['a later one', {}, ['events 1', 'events 2', 'sums all'], [300, 300, 300]],
        ['a later one, and there is no view', { materialized_views: [] }, ['events 1', 'events 2'], [300, 300]],
        ['that behind a view', {}, ['sums all'], 'sums has taken nothing of it'],
        ['the only one', { partition_by: 'p * 0' }, ['events 0', 'sums all'], [300, 300, 300]],
        ['none', {}, [], [300, 300, 300]],
      ]
      it.for(LONG ? LOST : LOST.slice(0, 4))(
        'it was %s: the batch is there once, or refused',
        { timeout: 60_000 },
        async ([, options, lost, expected]) => {
          await using own = await startPrivate('clickhouse')
          const { url } = own.endpoint
          const loader = await opened(url, { partition_by: 'p', ...options }, rows)
          await bench.write(loader, { rows })
          const parts = await onClickHouse(
            url,
            "SELECT concat(table, ' ', partition_id) AS place, name, path FROM system.parts WHERE active",
          )
          // As if the server had run for a while.
          await onClickHouse(
            url,
            'ALTER TABLE _adflow_batches UPDATE server_started = server_started - 60 WHERE true SETTINGS mutations_sync = 2',
          )
          await onClickHouse(
            url,
            "DELETE FROM _adflow_batches WHERE state = 'written' SETTINGS lightweight_deletes_sync = 2",
          )
          await own.kill9()
          for (const { place, name, path } of parts) {
            if (!lost.includes(String(place))) continue
            rmSync(String(path), { recursive: true })
            if (place !== lost[0]) forget(String(path), String(name))
          }
          await own.restart()
          const error = await failing(bench.write(loader, { rows }))
          if (typeof expected === 'string')
            expect(error).toMatchObject({ code: 'STORE_MISMATCH', message: expect.stringContaining(expected) })
          else {
            expect(error).toBeUndefined()
            const counts = ['count() AS n FROM events', 'uniqExact(id) AS n FROM events', 'sum(n) AS n FROM sums']
            for (const [at, there] of expected.entries())
              expect(await onClickHouse(url, `SELECT ${counts[at]}`)).toEqual([{ n: String(there) }])
            expect(await bench.write(loader, { rows })).toMatchObject({ repeated: true })
          }
          await loader.close()
        },
      )

      /** Takes the note of a part out of the memory of its table. */
      function forget(path: string, name: string): void {
        const folder = join(dirname(path.replace(/\/$/, '')), 'deduplication_logs')
        for (const file of readdirSync(folder)) {
          const kept = readFileSync(join(folder, file), 'utf8')
            .split('\n')
            .filter((line) => !line.includes(`\t${name}\t`))
          writeFileSync(join(folder, file), kept.join('\n'))
        }
      }
    })

    it('is refused by a server whose disk is full, and taken when there is room again', async () => {
      await using own = await startPrivate('clickhouse', { diskSize: '90m' })
      const { url } = own.endpoint
      const rows = 'SELECT i::BIGINT AS id, hash(i)::VARCHAR || hash(i + 1)::VARCHAR AS name FROM range(700000) t(i)'
      const loader = await opened(url)
      await onClickHouse(
        url,
        'CREATE TABLE filler ENGINE = MergeTree ORDER BY tuple() AS SELECT randomString(1000) AS v FROM numbers(60000)',
      )
      expect(await failing(bench.write(loader, { rows }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        retryable: true,
        hint: expect.stringContaining('disk of the server is full'),
      })
      expect(await held(url)).toEqual([0, 0, 0])
      await onClickHouse(url, 'DROP TABLE filler SYNC')
      expect(await bench.write(loader, { rows })).toMatchObject({ rows: 700_000, repeated: false })
      expect(await held(url)).toEqual([700_000, 700_000, 700_000])
      await loader.close()
    }, 120_000)

    /** Resolves when the server works on the INSERT of a batch. */
    async function sending(url: string): Promise<void> {
      for (;;) {
        const [row] = await onClickHouse(
          url,
          "SELECT count() AS n FROM system.processes WHERE query LIKE 'INSERT INTO%FORMAT Parquet%'",
        )
        if (Number(row?.['n']) > 0) return
      }
    }
  },
)
