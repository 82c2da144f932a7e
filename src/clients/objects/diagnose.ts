/** Folders and files of this machine before a run: there, readable, writable, with room. Looks only. */
import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import { diagnosisAt, type Findings, localSpace } from '../../core/findings.ts'
import { sizeText } from '../../core/job/units.ts'
import { type Discovery, discover, type Selection, type SourceFile } from './discover.ts'

/** Problems and files that are named one by one. */
const NAMED = 5
/** Files that are asked whether they may be read. */
const TRIED = 1000
/** File servers and copies keep times less exactly than this. */
const FUTURE_MS = 5000

/** A folder that files are put into, and made where it is missing. */
export function diagnoseFolder(folder: string): Diagnosis {
  return diagnosisAt(folder, async function* (at) {
    yield* await writableFindings(at, folder, 'folder')
  })
}

/** A file that is written, or made where it is missing, or a folder of files. */
export async function writableFindings(at: Findings, path: string, kind: 'file' | 'folder'): Promise<Finding[]> {
  const there = await stat(path).catch(() => undefined)
  const folder = await existingFolder(kind === 'file' ? dirname(path) : path)
  const outside = (await stat(folder)).isDirectory() ? undefined : `${folder} is no folder`
  const wrong = outside ?? (kind === 'file' && there?.isFile() === false ? 'is there, and is no file' : undefined)
  if (wrong !== undefined) return [at.failed('target', 'LOCAL_IO', wrong, 'name another path, or move it away')]
  return [
    at.ok('target', there === undefined ? `would be made: the ${kind}` : `the ${kind} is there`),
    (await refused(at, folder, constants.W_OK | constants.X_OK)) ??
      (there === undefined ? undefined : await refused(at, path, constants.W_OK)) ??
      at.ok('permission', 'this user may write there'),
    at.disk(await localSpace(folder), 'machine'),
  ]
}

async function refused(at: Findings, path: string, mode: number): Promise<Finding | undefined> {
  const refusal = await refusalOf(path, mode)
  if (refusal === undefined) return undefined
  if (refusal.code === 'EROFS')
    return at.failed(
      'writable',
      'LOCAL_IO',
      'the file system is read-only',
      'mount it for writing, or name another path',
    )
  const mend = `give it that right: chown or chmod ${path}`
  return at.failed('permission', 'LOCAL_IO', `this user may not write ${path}`, mend)
}

/** What patterns name, and whether this user may read it. */
export function diagnoseSources(place: string, selection: Selection, env: DiagnoseEnv): Diagnosis {
  return diagnosisAt(place, async function* (at) {
    const discovery = await discover(selection)
    if (discovery.files.length > 0 || discovery.problems.length === 0) yield targetFinding(at, discovery)
    for (const { code, message } of discovery.problems.slice(0, NAMED))
      yield at.failed('target', code, message, 'put it there, or change `path` and `exclude`')
    if (discovery.problems.length > NAMED)
      yield at.failed(
        'target',
        'SOURCE_UNREADABLE',
        `${discovery.problems.length - NAMED} more cannot be read`,
        '`adflow plan` lists them',
      )
    if (discovery.files.length === 0) return
    yield await readFinding(at, discovery.files.slice(0, TRIED), env.signal)
    yield clockFinding(at, discovery.files, env.now())
  })
}

function targetFinding(at: Findings, { files }: Discovery): Finding {
  const bytes = files.reduce((total, { facts }) => total + facts.size, 0)
  return at.ok(
    'target',
    files.length === 1 ? `1 file, ${sizeText(bytes)}` : `${files.length} files, ${sizeText(bytes)}`,
  )
}

async function readFinding(at: Findings, files: readonly SourceFile[], signal: AbortSignal): Promise<Finding> {
  const refused: string[] = []
  for (const { absolute } of files) {
    signal.throwIfAborted()
    if ((await refusalOf(absolute, constants.R_OK)) !== undefined) refused.push(absolute)
  }
  if (refused.length === 0) return at.ok('permission', 'this user may read them')
  const more = refused.length > NAMED ? ` and ${refused.length - NAMED} more` : ''
  return at.failed(
    'permission',
    'SOURCE_UNREADABLE',
    `this user may not read ${refused.slice(0, NAMED).join(', ')}${more}`,
    'give it that right: chmod or chown',
  )
}

/** A file counts as finished by its age: one from the future never is. */
function clockFinding(at: Findings, files: readonly SourceFile[], nowMs: number): Finding {
  const newest = Math.max(...files.map(({ facts }) => facts.modifiedMs))
  if (newest <= nowMs + FUTURE_MS) return at.ok('clock', 'no file was modified in the future')
  return at.warning(
    'clock',
    `the newest file was modified ${Math.round((newest - nowMs) / 1000)} s in the future: it waits to be finished until then`,
    'set the clocks of this machine and of the file server by NTP',
  )
}

/** The nearest folder around the path that is there: what is missing would be made in it. */
async function existingFolder(path: string): Promise<string> {
  for (let at = path; ; at = dirname(at)) {
    const there = await stat(at).catch(() => undefined)
    if (there !== undefined || at === dirname(at)) return at
  }
}

async function refusalOf(path: string, mode: number): Promise<NodeJS.ErrnoException | undefined> {
  return access(path, mode).then(
    () => undefined,
    (error: NodeJS.ErrnoException) => error,
  )
}
