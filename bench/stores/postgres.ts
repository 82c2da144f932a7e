/** psql \copy of the CSV file into a table of the same types. */
import { execFileSync } from 'node:child_process'
import { startPrivate } from '../../test/harness/servers/private.ts'
import { type BenchStore, COLUMNS } from './store.ts'

export const store: BenchStore = {
  format: 'csv',
  // Of 1M events the start of the process is a tenth of the time.
  rows: 2_000_000,
  resources: { chunk: '32MB', in_flight: 4 },
  async start({ path }) {
    const server = await startPrivate('postgres')
    const { url } = server.endpoint
    const psql = (...args: readonly string[]) => [
      'psql',
      url,
      '--no-psqlrc',
      '--quiet',
      '-v',
      'ON_ERROR_STOP=1',
      ...args,
    ]
    const columns = Object.entries(COLUMNS).map(([name, type]) => `${name} ${type}`)
    const empty = `DROP TABLE IF EXISTS events, copied, _adflow_batches; CREATE TABLE copied (${columns.join(', ')})`
    return {
      load: { type: 'postgres', url, table: 'events' },
      tools: [{ name: 'psql \\copy', argv: psql('-c', `\\copy copied FROM '${path}' WITH (FORMAT csv, HEADER)`) }],
      empty: () => {
        const [command = '', ...args] = psql('-c', empty, '-c', 'CHECKPOINT')
        execFileSync(command, args, {
          stdio: ['ignore', 'ignore', 'inherit'],
          env: { ...process.env, PGOPTIONS: '-c client_min_messages=warning' },
        })
      },
      end: () => server.end(),
    }
  },
}
