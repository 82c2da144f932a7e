/** An API that gives rows in pages, each naming the next; its plain client (undici) gets the same pages and reads their bytes. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createReadStream, mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { BenchSource } from './source.ts'

const PAGE_ROWS = 5_000

export const source: BenchSource = {
  async start({ path, folder }) {
    const pages = join(folder, 'pages')
    mkdirSync(pages)
    const { count, bytes } = await render(path, pages)
    const peers = join(dirname(dirname(fileURLToPath(import.meta.url))), 'peers')
    const server = spawn(process.execPath, [join(peers, 'serve-pages.ts'), pages], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [port] = (await once(server.stdout, 'data')) as [Buffer]
    const origin = `http://127.0.0.1:${port.toString().trim()}`
    return {
      extract: {
        type: 'http',
        url: `${origin}/0`,
        records: 'data',
        paginate: { type: 'next', path: 'next' },
        again: 'all',
        allow_private: true,
      },
      clients: [
        { name: 'undici', argv: [process.execPath, join(peers, 'get-pages.ts'), origin, String(count), String(bytes)] },
      ],
      end: async () => {
        server.kill()
        await once(server, 'exit')
      },
    }
  },
}

async function render(path: string, folder: string): Promise<{ readonly count: number; readonly bytes: number }> {
  let [rows, count, bytes]: [string[], number, number] = [[], 0, 0]
  const write = (isLast: boolean) => {
    const page = `{"data":[${rows.join(',')}],"next":${isLast ? 'null' : `"/${count + 1}"`}}`
    writeFileSync(join(folder, String(count)), page)
    count += 1
    bytes += Buffer.byteLength(page)
    rows = []
  }
  for await (const line of createInterface({ input: createReadStream(path), crlfDelay: Infinity })) {
    if (rows.length === PAGE_ROWS) write(false)
    rows.push(line)
  }
  write(true)
  return { count, bytes }
}
