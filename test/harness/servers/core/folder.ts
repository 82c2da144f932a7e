/**
 * Folders of running servers. A folder carries the pid of the process that made it, so that what a killed test run left
 * behind is removed by the next one.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { isAlive } from './pids.ts'

const PREFIX = 'adflow-server-'

export class Folder {
  readonly path: string

  constructor(path: string) {
    this.path = path
  }

  /** A folder beneath this one; other users may pass through, for servers that refuse root. */
  make(name: string): string {
    const path = join(this.path, name)
    mkdirSync(path, { recursive: true })
    return path
  }

  write(name: string, text: string, mode = 0o644): string {
    const path = join(this.path, name)
    writeFileSync(path, text, { mode })
    return path
  }

  remove(): void {
    rmSync(this.path, { recursive: true, force: true })
  }
}

export function makeFolder(name: string): Folder {
  removeLeftBehind()
  const path = mkdtempSync(join(tmpdir(), `${PREFIX}${process.pid}-${name}-`))
  chmodSync(path, 0o755)
  return new Folder(path)
}

/** A file system of its own, in memory. */
export function mount(path: string, size: string): void {
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path])
}

/** Unmounts what is mounted at a path or beneath it. */
export function unmountBeneath(path: string): void {
  const mounted = readFileSync('/proc/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[1] ?? '')
    .filter((point) => point === path || point.startsWith(`${path}/`))
  for (const point of mounted.reverse()) execFileSync('umount', ['--lazy', point])
}

/** Of this user: those of others are theirs. */
function removeLeftBehind(): void {
  for (const name of readdirSync(tmpdir())) {
    const pid = name.startsWith(PREFIX) ? Number.parseInt(name.slice(PREFIX.length), 10) : Number.NaN
    if (Number.isNaN(pid) || isAlive(pid)) continue
    const path = join(tmpdir(), name)
    try {
      if (statSync(path).uid !== process.getuid?.()) continue
      if (process.platform === 'linux') unmountBeneath(path)
      rmSync(path, { recursive: true, force: true })
    } catch {
      // Another run is removing it too, or cannot yet: it costs some disk, and is tried again next time.
    }
  }
}
