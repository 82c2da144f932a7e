/** Whole processes, measured from outside: wall time, CPU time and peak memory, in pairs, so that a drift of the machine hits both. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'

export interface Measured {
  readonly seconds: number
  /** User and system, all threads: what wall time does not tell on a machine with other work. */
  readonly cpuSeconds: number
  readonly peakBytes: number
}

export interface Contender {
  readonly name: string
  readonly argv: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  /** Exit code of a run that went well. Default: 0. */
  readonly exit?: number
  /** Before each run, not measured. */
  readonly prepare: () => void | Promise<void>
}

export function measure({ argv, env, exit = 0 }: Contender): Promise<Measured> {
  return new Promise((resolve, reject) => {
    const started = process.hrtime.bigint()
    const [command = '', ...args] = argv
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, ...env } })
    let peakBytes = 0
    let cpuSeconds = 0
    const look = setInterval(() => {
      peakBytes = Math.max(peakBytes, peakOf(child.pid))
      cpuSeconds = Math.max(cpuSeconds, cpuOf(child.pid))
    }, 20)
    const err: Buffer[] = []
    child.stderr.on('data', (data: Buffer) => err.push(data))
    child.on('error', reject)
    child.on('close', (code) => {
      clearInterval(look)
      const seconds = Number(process.hrtime.bigint() - started) / 1e9
      if (code === exit) resolve({ seconds, cpuSeconds, peakBytes })
      else
        reject(new Error(`${argv.join(' ')} ended with ${code}: ${Buffer.concat(err).toString('utf8').slice(-2000)}`))
    })
  })
}

/** VmHWM: the kernel's own high-water mark. */
export function peakOf(pid: number | undefined): number {
  return memoryOf(pid, 'VmHWM')
}

/** Clock ticks of Linux, of which every architecture that Node runs on has 100 a second. */
const TICKS_PER_SECOND = 100

export function cpuOf(pid: number | undefined): number {
  try {
    // The name of the process may hold spaces: fields are counted from the bracket that closes it. They are utime and stime.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
  } catch {
    return 0 // the process has just ended
  }
}

/** Runs the contenders in turn, `runs` times after one warm-up each, and returns what was measured of each. */
export async function inTurn(contenders: readonly Contender[], runs: number): Promise<Map<string, Measured[]>> {
  const all = new Map<string, Measured[]>(contenders.map(({ name }) => [name, []]))
  for (let run = -1; run < runs; run += 1)
    for (const contender of contenders) {
      await contender.prepare()
      const measured = await measure(contender)
      if (run >= 0) all.get(contender.name)?.push(measured)
      process.stderr.write(
        `${run < 0 ? 'warm-up' : `run ${run + 1}`}  ${contender.name.padEnd(24)} ${measured.seconds.toFixed(2)} s  ${measured.cpuSeconds.toFixed(2)} CPU-s  ${(measured.peakBytes / 2 ** 20).toFixed(0)} MiB\n`,
      )
    }
  return all
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

/** Median of the ratios pair by pair. */
export function ratio(
  ours: readonly Measured[],
  theirs: readonly Measured[],
  of: 'seconds' | 'cpuSeconds' | 'peakBytes' = 'seconds',
): number {
  return median(ours.map((own, index) => own[of] / (theirs[index] as Measured)[of]))
}

/** VmRSS: what is resident now, in bytes. */
export function residentOf(pid: number | undefined): number {
  return memoryOf(pid, 'VmRSS')
}

function memoryOf(pid: number | undefined, line: 'VmHWM' | 'VmRSS'): number {
  try {
    const found = new RegExp(`^${line}:\\s+(\\d+) kB$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))
    return Number(found?.[1] ?? 0) * 1024
  } catch {
    return 0 // the process has just ended
  }
}
