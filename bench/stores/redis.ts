/** redis-cli --pipe of an HSET for each row, in the protocol of Redis, as its mass insertion wants them. */
import { execFileSync } from 'node:child_process'
import { createReadStream, createWriteStream } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { pipeline } from 'node:stream/promises'
import { startPrivate } from '../../test/harness/servers/private.ts'
import { type BenchFile, type BenchStore, COLUMNS } from './store.ts'

export const store: BenchStore = {
  format: 'ndjson',
  async start(file) {
    const commands = join(file.folder, 'commands.resp')
    await pipeline(hsets(file), createWriteStream(commands))
    const server = await startPrivate('redis')
    const { url } = server.endpoint
    const { port, password } = new URL(url)
    const cli = ['redis-cli', '-p', port, '-a', password, '--no-auth-warning']
    return {
      load: { type: 'redis', url, prefix: 'event:', key: 'event_id' },
      tools: [{ name: 'redis-cli --pipe', argv: ['sh', '-c', `${cli.join(' ')} --pipe < ${commands}`] }],
      empty: () => {
        const [command = '', ...args] = cli
        execFileSync(command, [...args, 'FLUSHALL'], { stdio: ['ignore', 'ignore', 'inherit'] })
      },
      end: () => server.end(),
    }
  },
}

async function* hsets({ path }: BenchFile): AsyncGenerator<string> {
  const names = Object.keys(COLUMNS)
  for await (const line of createInterface({ input: createReadStream(path) })) {
    const row = JSON.parse(line) as Record<string, unknown>
    const fields = names.flatMap((name) => (row[name] == null ? [] : [name, String(row[name])]))
    const words = ['HSET', `event:${row['event_id']}`, ...fields]
    yield `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`
  }
}
