/** What the daemon makes of a job file, for `adflow doctor`. Asks the disk, not the daemon: it need not run. */
import { hash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { readdir, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { Diagnosis } from '../core/diagnosis.ts'
import { diagnosisAt } from '../core/findings.ts'
import type { StatePlace } from '../core/state-place.ts'
import { fetchFolder } from '../runtime/shared-folder.ts'
import { DAEMON, daemonLease } from '../runtime/state-home.ts'
import { daemonFolder, machineFolder } from './daemon.ts'
import { currentLease } from './epoch.ts'
import { readBook } from './journal.ts'
import type { JobBook } from './slot-book.ts'

/** Nothing is found where no daemon has ever been. */
export function diagnoseDaemon(file: string, stateDir: string, place?: StatePlace): Diagnosis {
  const folder = daemonFolder(stateDir, place)
  return diagnosisAt(folder, async function* (at) {
    const epochs = join(folder, 'epochs')
    if (place !== undefined) await fetchFolder({ ...daemonLease(place), path: folder })
    if (!existsSync(epochs)) return
    const lease = await currentLease(epochs, place === undefined ? undefined : { place, baseDir: process.cwd() })
    const leads =
      lease === undefined || lease.released ? 'no daemon leads' : `process ${lease.pid} on ${lease.host} leads`
    const known = await knownIn([folder, machineFolder(stateDir, place), ...(await sharedIn(stateDir))], resolve(file))
    if (known === undefined) {
      yield at.ok('daemon', `${leads}; it has no job of this file`)
      return
    }
    const [name, { digest, paused, recent }] = known
    if (digest !== hash('sha256', await readFile(file, 'utf8')))
      yield at.warning(
        'daemon',
        `${leads}; ${name} goes on as the file was before its last change`,
        'see `adflow lint` and the log of the daemon: a file with mistakes is not taken up',
      )
    else yield at.ok('daemon', `${leads}; ${name} runs as the file says`)
    if (paused !== null)
      yield at.warning(
        'daemon',
        `${name} is paused by ${paused.who} since ${paused.at}: ${paused.why}`,
        `adflow daemon resume ${name} --reason …`,
      )
    const [last] = recent
    if (last !== undefined && !last.ok)
      yield at.warning(
        'daemon',
        `the last time ended with ${last.status}: ${last.message ?? `exit ${last.exit}`}`,
        `see \`adflow status\`, and the log of the run in ${join(folder, 'runs', name)}`,
      )
  })
}

/** The job of the file, as the first of these daemon folders has it. */
async function knownIn(folders: readonly string[], file: string): Promise<readonly [string, JobBook] | undefined> {
  for (const folder of folders) {
    const { jobs } = await readBook(join(folder, 'epochs'))
    const found = [...jobs].find(([, book]) => book.file === file && !book.removed)
    if (found !== undefined) return found
  }
  return undefined
}

/** Where daemons share times of jobs by what the job files say: as this machine has seen them last. */
async function sharedIn(stateDir: string): Promise<string[]> {
  const names = await readdir(stateDir)
  return names.filter((name) => name.startsWith('_shared-')).map((name) => join(stateDir, name, DAEMON))
}
