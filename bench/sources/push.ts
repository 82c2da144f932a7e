/**
 * Requests that are answered for in a second, by `adflow serve-push` and by a bare route of fastify that appends and syncs: what each body
 * costs beyond that is checking its events, sums and keys; what is saved is that requests share a sync.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { freePort, type LoadReport, pushLoad } from '../../test/harness/push-gateway.ts'
import { median } from '../measure.ts'
import type { BenchOptions } from '../run.ts'

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))))
const SECONDS = 5
const CLIENTS = 128
const SIZES = [1, 100, 1000] as const
const TEXT = 'x'.repeat(150)

interface Peer {
  /** The command line, without Node, and where it takes pushes. */
  start(port: number, folder: string): { readonly argv: readonly string[]; readonly url: string; readonly says: string }
}

const PEERS: Readonly<Record<string, Peer>> = {
  adflow: {
    start(port, folder) {
      const job = join(folder, 'job.yaml')
      writeFileSync(
        job,
        'version: 1\nname: bench\nextract: { pushed: { type: push } }\ncontract: { columns: { id: bigint } }\nload: { out: { type: files, format: parquet, path: out } }\n',
      )
      const options = [`--listen=127.0.0.1:${port}`, `--state-dir=${join(folder, 'state')}`]
      return {
        argv: [join(root, 'bin', 'run.js'), 'serve-push', job, ...options],
        url: `http://127.0.0.1:${port}/push/bench/pushed`,
        says: 'takes pushes at',
      }
    },
  },
  fastify: {
    start: (port, folder) => ({
      argv: [join(root, 'bench', 'peers', 'fastify-append.ts'), String(port), join(folder, 'events.ndjson')],
      url: `http://127.0.0.1:${port}/`,
      says: 'listens',
    }),
  },
}

export async function bench({ runs }: BenchOptions, folder: string): Promise<void> {
  for (const size of SIZES) {
    const reports = new Map<string, LoadReport[]>(Object.keys(PEERS).map((name) => [name, []]))
    for (let run = -1; run < runs; run += 1)
      for (const [name, peer] of Object.entries(PEERS)) {
        const report = await measured(peer, size, join(folder, `${name}-${size}-${run + 1}`))
        if (run >= 0) reports.get(name)?.push(report)
      }
    told(size, reports)
  }
}

async function measured(peer: Peer, size: number, folder: string): Promise<LoadReport> {
  mkdirSync(folder, { recursive: true })
  const { argv, url, says } = peer.start(await freePort(), folder)
  const child = spawn(process.execPath, argv, {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, NO_COLOR: '1' },
  })
  try {
    await said(child, says)
    return await pushLoad({
      ...{ url, clients: CLIENTS, eventsPerRequest: size, eventsPerSecond: undefined },
      event: (id) => `{"id":${id},"text":"${TEXT}"}`,
      over: (seconds) => seconds >= SECONDS,
    })
  } finally {
    child.kill('SIGKILL')
  }
}

function said(child: ChildProcess, what: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = ''
    child.once('exit', (code) => reject(new Error(`ended with ${code}: ${text}`)))
    child.stderr?.setEncoding('utf8').on('data', (more: string) => {
      text += more
      if (text.includes(what)) resolve()
    })
  })
}

function told(size: number, reports: ReadonlyMap<string, readonly LoadReport[]>): void {
  const rate = (name: string) => median((reports.get(name) ?? []).map(({ requests, seconds }) => requests / seconds))
  process.stdout.write(
    `ratio extractors.push.${size} ${(rate('adflow') / rate('fastify')).toFixed(2)} vs fastify, append and sync\n`,
  )
  for (const [name, all] of reports) {
    const p99 = median(all.map(({ latenciesMs }) => latenciesMs[Math.floor(latenciesMs.length * 0.99)] ?? 0))
    process.stdout.write(
      `rate  extractors.push.${size} ${Math.round(rate(name))} requests/s, ${Math.round(rate(name) * size)} events/s, p99 ${p99.toFixed(0)} ms ${name}\n`,
    )
  }
}
