/** Which file belongs to which lane. A lane is a sequence of bytes, not a name: it follows its file through renames, and other
 *  bytes under an old name get a lane of their own, because tokens are made of lane and range. */
import { AdflowError } from '../../core/errors.ts'
import { naturalOrder, type SourceFile } from './discover.ts'
import { type Difference, differenceOf, isSameFile, type Mark } from './identity.ts'
import type { FilePlace } from './place.ts'

export interface KnownLane {
  readonly lane: string
  readonly at: number
  readonly mark: Mark | undefined
}

export interface FileLane extends KnownLane {
  /** Why it cannot be told whether the file still holds what was read of it. */
  readonly unsure?: AdflowError
  readonly file: SourceFile
  readonly state: 'new' | 'continue' | 'done' | 'rotated' | Difference
}

export interface Resolution {
  readonly lanes: readonly FileLane[]
  /** Lanes whose bytes are nowhere to be found. */
  readonly missing: readonly KnownLane[]
}

export async function resolveLanes(
  place: Pick<FilePlace, 'open' | 'siblings' | 'renames'>,
  { files }: { readonly files: readonly SourceFile[] },
  known: readonly KnownLane[],
): Promise<Resolution> {
  const resolver = new Resolver(place, files, known)
  await resolver.byName()
  await resolver.followRenamed()
  resolver.nameTheRest()
  return resolver
}

class Resolver implements Resolution {
  readonly lanes: FileLane[] = []
  readonly missing: KnownLane[] = []
  readonly #place: Pick<FilePlace, 'open' | 'siblings' | 'renames'>
  readonly #files: readonly SourceFile[]
  readonly #known: readonly KnownLane[]
  readonly #claimed = new Set<string>()
  readonly #displaced: KnownLane[] = []
  readonly #unsure = new Map<string, AdflowError>()
  /** What became of the bytes that a name held before. */
  readonly #former = new Map<string, 'rotated' | Difference>()
  readonly #siblings = new Map<string, Promise<readonly SourceFile[]>>()

  constructor(
    place: Pick<FilePlace, 'open' | 'siblings' | 'renames'>,
    files: readonly SourceFile[],
    known: readonly KnownLane[],
  ) {
    this.#place = place
    this.#files = files
    this.#known = known
  }

  /** A file under its old name, with its old bytes. Of several lanes of one name the youngest counts. */
  async byName(): Promise<void> {
    const paths = new Set(this.#files.map((file) => file.path))
    const byPath = Map.groupBy(this.#known, ({ lane, mark }) => {
      if (mark !== undefined || paths.has(lane)) return mark?.path ?? lane
      return lane.replace(/#\d+$/, '') // a position without a mark: the name of its lane is all there is
    })
    for (const file of this.#files) {
      const candidates = (byPath.get(file.path) ?? []).sort((a, b) => naturalOrder(b.lane, a.lane))
      byPath.delete(file.path)
      for (const lane of candidates) {
        const difference = this.#claimed.has(file.absolute) ? 'replaced' : await this.#difference(lane, file)
        if (difference === undefined) this.#claim(lane, file)
        else this.#displace(lane, file.path, difference)
      }
    }
    for (const lane of [...byPath.values()].flat()) this.#displaced.push(lane)
  }

  async followRenamed(): Promise<void> {
    for (const lane of this.#displaced) {
      const home = this.#place.renames ? await this.#findHome(lane) : undefined
      if (home === undefined) this.missing.push(lane)
      else {
        this.#claim(lane, home)
        if (lane.mark !== undefined && this.#former.has(lane.mark.path)) this.#former.set(lane.mark.path, 'rotated')
      }
    }
  }

  nameTheRest(): void {
    const known = new Set(this.#known.map((lane) => lane.lane))
    const taken = new Set([...known, ...this.#files.map((file) => file.path)])
    for (const file of this.#files) {
      if (this.#claimed.has(file.absolute)) continue
      let lane = file.path
      const isFree = !known.has(lane)
      for (let n = 2; !isFree && taken.has(lane); n += 1) lane = `${file.path}#${n}`
      taken.add(lane)
      this.lanes.push({ lane, at: 0, mark: undefined, file, state: this.#former.get(file.path) ?? 'new' })
    }
    this.lanes.sort((a, b) => naturalOrder(a.lane, b.lane))
  }

  #claim(lane: KnownLane, file: SourceFile): void {
    this.#claimed.add(file.absolute)
    const { mark } = lane
    const { size, modified, version } = file.facts
    const same = version === undefined ? mark?.modified === modified : mark?.version === version
    const done = mark?.ended === true && mark.size === size && same
    const unsure = this.#unsure.get(file.absolute)
    const doubt = unsure === undefined ? {} : { unsure }
    this.lanes.push({ ...lane, file, state: done ? 'done' : 'continue', ...doubt })
  }

  #displace(lane: KnownLane, path: string, difference: Difference): void {
    this.#displaced.push(lane)
    if (!this.#former.has(path)) this.#former.set(path, difference)
  }

  async #difference(lane: KnownLane, file: SourceFile): Promise<Difference | undefined> {
    if (lane.mark === undefined) return undefined
    try {
      return await differenceOf(lane.mark, file.facts, () => this.#place.open(file))
    } catch (error) {
      if (!(error instanceof AdflowError)) throw error
      this.#unsure.set(file.absolute, error) // nothing is taken for new meanwhile
      return undefined
    }
  }

  /** The file itself under another name, or a copy that a log rotation left beside it. */
  async #findHome(lane: KnownLane): Promise<SourceFile | undefined> {
    const { mark } = lane
    if (mark === undefined) return undefined
    const near = await this.#siblingsOf(mark.path)
    const candidates = [...this.#files, ...near].filter((file) => !this.#claimed.has(file.absolute))
    const same = candidates.filter((file) => isSameFile(mark, file.facts))
    const copies = near.filter((file) => !this.#claimed.has(file.absolute) && mark.raw > 0)
    for (const file of [...same, ...copies]) if ((await this.#difference(lane, file)) === undefined) return file
    return undefined
  }

  /** `app.log.1`, `app.log-20260101` beside `app.log`; not what was compressed, whose bytes are others. */
  #siblingsOf(path: string): Promise<readonly SourceFile[]> {
    const known = this.#siblings.get(path)
    if (known !== undefined) return known
    const found = this.#place.siblings(path)
    this.#siblings.set(path, found)
    return found
  }
}
