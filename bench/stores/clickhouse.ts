/** curl of the NDJSON file into a table of the same types, which syncs what it takes as adflow's does. It sends while it reads: told the name of
 *  the file it would read all of it first, and not take one of a gigabyte. */
import { execFileSync } from 'node:child_process'
import { startPrivate } from '../../test/harness/servers/private.ts'
import { type BenchStore, COLUMNS } from './store.ts'

const TYPES: Readonly<Record<string, string>> = {
  bigint: 'Nullable(Int64)',
  varchar: 'Nullable(String)',
  timestamp: "Nullable(DateTime64(6, 'UTC'))",
}

export const store: BenchStore = {
  format: 'ndjson',
  // Of 1M rows, which curl loads in a second, a third of the job's time is its start and its end.
  rows: 8_000_000,
  resources: { chunk: '512MB', in_flight: 3 },
  async start({ path }) {
    const server = await startPrivate('clickhouse')
    const { url } = server.endpoint
    const place = (query: string) => `${url}/?date_time_input_format=best_effort&query=${encodeURIComponent(query)}`
    const curl = ['curl', '--silent', '--show-error', '--fail-with-body', '--request', 'POST']
    const upload = [
      ...curl,
      '--header',
      'Expect:',
      '--upload-file',
      '-',
      place('INSERT INTO copied FORMAT JSONEachRow'),
    ]
    const columns = Object.entries(COLUMNS).map(([name, type]) => `${name} ${TYPES[type]}`)
    const statements = [
      'DROP TABLE IF EXISTS events SYNC',
      'DROP TABLE IF EXISTS copied SYNC',
      'DROP TABLE IF EXISTS _adflow_batches SYNC',
      `CREATE TABLE copied (${columns.join(', ')}) ENGINE = MergeTree ORDER BY tuple() SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`,
    ]
    return {
      load: { type: 'clickhouse', url, table: 'events' },
      tools: [{ name: 'curl', argv: ['sh', '-c', 'exec "$@" < "$0"', path, ...upload] }],
      empty: () => {
        const [command = '', ...args] = curl
        for (const statement of statements)
          execFileSync(command, [...args, '--data-binary', '', place(statement)], {
            stdio: ['ignore', 'ignore', 'inherit'],
          })
      },
      end: () => server.end(),
    }
  },
}
