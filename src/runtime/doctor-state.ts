/** The state of a job before it runs: whether it can be written and read, who holds it, what is owed. Reads only. */
import { existsSync } from 'node:fs'
import { writableFindings } from '../clients/objects/diagnose.ts'
import type { DiagnoseEnv, Diagnosis, Finding } from '../core/diagnosis.ts'
import { diagnosisAt, type Findings, findingsAt, localSpace } from '../core/findings.ts'
import type { Job } from '../core/job/job.ts'
import { sizeText } from '../core/job/units.ts'
import { ledgerDamaged, verifyLedger } from '../lineage/ledger-verify.ts'
import { openCheckpoints } from './checkpoints.ts'
import { whoHolds } from './lock.ts'
import { Spool } from './spool.ts'
import { stagedOf } from './staged-status.ts'
import type { StateDir } from './state-dir.ts'

/** Of spool.max_bytes: what is owed beyond it is worth a look. */
const MUCH = 0.8

export function diagnoseState(job: Job, state: StateDir, { answerMs }: Pick<DiagnoseEnv, 'answerMs'>): Diagnosis {
  return diagnosisAt(state.path, async function* (at) {
    const own = await folder(at, state.path)
    yield* own
    if (own.some(({ status }) => status === 'failed')) return
    const { tempDirectory } = job.resources
    if (tempDirectory !== undefined) yield* await folder(findingsAt(tempDirectory), tempDirectory)
    yield* await owed(at, job, state)
    if (!existsSync(state.path)) return
    yield await lock(at, state)
    yield await checkpoint(at, job, state)
    yield await ledger(at, state, answerMs)
  })
}

async function folder(at: Findings, path: string): Promise<Finding[]> {
  const findings = await writableFindings(at, path, 'folder')
  const other = 'or name another with --state-dir or ADFLOW_STATE_DIR'
  const own = findings.flatMap((finding): Finding[] => {
    if (finding.check === 'disk') return [finding]
    if (finding.status === 'ok') return []
    return [{ ...finding, check: 'state', mend: `${finding.mend}, ${other}` }]
  })
  if (own.some(({ check }) => check === 'state')) return own
  const there = existsSync(path) ? 'can be written' : 'would be made'
  return [at.ok('state', there), ...own]
}

async function lock(at: Findings, { path }: StateDir): Promise<Finding> {
  const holder = await whoHolds(path)
  if (holder === 'nobody') return at.ok('lock', 'nobody holds the job')
  if (holder === 'silent')
    return at.warning(
      'lock',
      'a process that does not answer holds the job',
      'look for an adflow that was stopped (kill -CONT or -TERM), and wait for it',
    )
  return at.ok('lock', `process ${holder.pid} holds the job since ${holder.since} (\`${holder.command}\`)`)
}

async function checkpoint(at: Findings, job: Job, state: StateDir): Promise<Finding> {
  try {
    const { fresh, fallback, current } = await openCheckpoints(state.path, job.name)
    const staged = (await stagedOf(job, state, current.sources))
      .filter(({ bytes }) => bytes > 0)
      .map(({ source, bytes }) => `; ${sizeText(bytes)} of ${source} are staged and come first`)
      .join('')
    if (fallback !== undefined)
      return at.warning(
        'checkpoint',
        `slot ${fallback.slot} is damaged: ${fallback.reason}; generation ${fallback.generation} of the other holds`,
        'look at the disk; the next run repeats what came since, and the stores refuse what they have',
      )
    if (fresh) return at.ok('checkpoint', `none yet: the job has not run${staged}`)
    return at.ok('checkpoint', `generation ${current.generation} of ${current.saved_at}${staged}`)
  } catch (error) {
    return at.failure('checkpoint', error)
  }
}

async function ledger(at: Findings, { ledger: path }: StateDir, answerMs: number): Promise<Finding> {
  const time = AbortSignal.timeout(answerMs)
  try {
    const { damage, events } = await verifyLedger(path, undefined, time)
    if (damage !== undefined) return at.failure('ledger', ledgerDamaged(path, damage))
    return at.ok('ledger', events === 0 ? 'none yet' : `the hash chain holds over ${events} events`)
  } catch (error) {
    if (!time.aborted) return at.failure('ledger', error)
    return at.unknown('ledger', `longer than ${answerMs / 1000} s to walk`, '`adflow audit verify` walks all of it')
  }
}

/** What waits for stores and consumers, against the room that the job and the disk have. */
async function owed(at: Findings, { spool, load, distribute }: Job, state: StateDir): Promise<Finding[]> {
  const waiting: { readonly whom: string; readonly bytes: number }[] = []
  const folders = [
    ...load.map(({ id }) => [`the store ${id}`, state.spoolOf(id)] as const),
    ...[...new Set(distribute.map(({ input }) => input))].map(
      (input) => [`consumers of ${input}`, state.outboxOf(input)] as const,
    ),
  ]
  for (const [whom, path] of folders) {
    if (!existsSync(path)) continue
    const own = new Spool(path)
    await own.open()
    if (own.bytes > 0) waiting.push({ whom, bytes: own.bytes })
  }
  const most = Math.max(0, ...waiting.map(({ bytes }) => bytes))
  const room = sizeText(spool.maxBytes)
  const found =
    waiting.length === 0
      ? `nothing; up to ${room} may wait for each`
      : `${waiting.map(({ whom, bytes }) => `${sizeText(bytes)} for ${whom}`).join(', ')}; up to ${room} for each`
  const { freeBytes } = await localSpace(state.path)
  if (most >= spool.maxBytes)
    return [at.failed('owed', 'SPOOL_FULL', found, 'mend the store that is owed, or raise spool.max_bytes')]
  if (most > MUCH * spool.maxBytes)
    return [at.warning('owed', found, 'mend the store that is owed before the spool is full, or raise spool.max_bytes')]
  if (freeBytes < spool.maxBytes - most)
    return [
      at.warning(
        'owed',
        `${found}, but the disk has ${sizeText(freeBytes)} free`,
        'lower spool.max_bytes: a full spool waits, a full disk stops the job',
      ),
    ]
  return [at.ok('owed', found)]
}
