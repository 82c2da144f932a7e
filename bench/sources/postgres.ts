/** A table, read from its beginning; its plain clients read the same by COPY. */
import { execFileSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startPrivate } from '../../test/harness/servers/private.ts'
import { COLUMNS } from '../stores/store.ts'
import type { BenchSource } from './source.ts'

const READ = join(dirname(dirname(fileURLToPath(import.meta.url))), 'peers', 'read-table.ts')

export const source: BenchSource = {
  async start({ path }) {
    const server = await startPrivate('postgres')
    const { url } = server.endpoint
    const columns = Object.entries(COLUMNS).map(([name, type]) => `${name} ${type}`)
    const statements = [
      `CREATE TABLE events (${columns.join(', ')})`,
      'CREATE TEMP TABLE lines (line json)',
      // Control characters as quote and delimiter: a line of JSON has none.
      `\\copy lines FROM '${path}' WITH (FORMAT csv, QUOTE e'\\x01', DELIMITER e'\\x02')`,
      'INSERT INTO events SELECT record.* FROM lines, json_populate_record(NULL::events, line) AS record',
      'VACUUM ANALYZE events',
      'CHECKPOINT',
    ]
    const psql = ['psql', url, '--no-psqlrc', '--quiet', '-v', 'ON_ERROR_STOP=1']
    const [command = '', ...args] = [...psql, ...statements.flatMap((statement) => ['-c', statement])]
    execFileSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
    return {
      extract: { type: 'postgres', url, table: 'events' },
      clients: [
        { name: 'pg-copy-streams', argv: [process.execPath, READ, url, 'events'] },
        { name: 'psql \\copy', argv: [...psql, '-c', `\\copy events TO '/dev/null' WITH (FORMAT csv)`] },
      ],
      end: () => server.end(),
    }
  },
}
