/** Processes beside a bench: a script of this folder, whose output is awaited, and a job that runs until it is told to stop. */
import { type ChildProcess, spawn } from 'node:child_process'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import type { RunSummary } from '../../src/runtime/summary.ts'

const peers = dirname(fileURLToPath(import.meta.url))
const adflow = join(dirname(dirname(peers)), 'bin', 'run.js')

/** What the script of this folder prints. @throws Error when it does not end with 0. */
export async function peer(signal: AbortSignal, name: string, ...args: readonly string[]): Promise<string> {
  const argv = [join(peers, name), ...args]
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'], signal, killSignal: 'SIGKILL' })
  const ended = new Promise<number | null>((resolve, reject) => child.once('close', resolve).once('error', reject))
  const said = await text(child.stdout)
  const code = await ended
  if (code !== 0) throw new Error(`${name} ended with ${code}`)
  return said
}

export interface RunningJob {
  readonly process: ChildProcess
  /** Tells it to stop, and waits. */
  stop(): Promise<RunSummary>
}

export function startJob(file: string, stateDir: string): RunningJob {
  const child = spawn(process.execPath, [adflow, 'run', file, '--state-dir', stateDir, '--json'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const said = text(child.stdout)
  return {
    process: child,
    async stop() {
      child.kill('SIGTERM')
      return JSON.parse(await said) as RunSummary
    },
  }
}

/** Where the time of the run went, to standard error. */
export function tellPhases({ timing }: RunSummary): void {
  for (const [phase, { batches, mean_ms, p99_ms }] of Object.entries(timing))
    process.stderr.write(`  ${phase.padEnd(16)} ${batches} batches, mean ${mean_ms} ms, p99 ${p99_ms} ms\n`)
}

export interface Percentiles {
  readonly p50: number
  readonly p95: number
  readonly p99: number
  readonly max: number
}

export function percentiles(values: readonly number[]): Percentiles {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99), max: sorted.at(-1) ?? Number.NaN }
}
