/** The objects of a bucket as files of a source. An object is its key and its ETag: every request for its bytes names both. */
import type { GetObjectCommandOutput, S3Client } from '@aws-sdk/client-s3'
import { AdflowError } from '../../core/errors.ts'
import type { SourceWatch } from '../../core/source-watch.ts'
import { naturalOrder, type SourceFile } from '../objects/discover.ts'
import { commonFolder, fitsOne } from '../objects/globs.ts'
import type { KnownLane } from '../objects/lanes.ts'
import type { FilePlace, Found, OpenFile } from '../objects/place.ts'
import { META_FOLDER } from '../objects/publish-manifest.ts'
import { RangedFile } from '../objects/ranged-file.ts'
import type { RetryOptions } from '../objects/reading-options.ts'
import { patiently, tooMany } from '../objects/remote-faults.ts'
import { connectS3, registerKeys } from './connect.ts'
import { FetchedAhead } from './fetched-ahead.ts'
import { floorOf, type Incremental, isFinished, nextFloor } from './incremental.ts'
import type { BucketOptions } from './options.ts'
import { explainSource } from './source-errors.ts'

/** Ranges of one object that are asked for ahead. */
const AHEAD = 2

export interface BucketFilesOptions extends BucketOptions {
  readonly patterns: readonly string[]
  readonly excluded: readonly string[]
  readonly allowEmpty: boolean
  readonly incremental: Incremental
  readonly lagMs: number
  readonly maxFiles: number
  readonly rangeBytes: number
  readonly retry: RetryOptions
}

interface Connection {
  readonly s3: typeof import('@aws-sdk/client-s3')
  readonly client: S3Client
}

export class BucketFiles implements FilePlace {
  /** The same bytes under another key are another object: copies are not told from new ones. */
  readonly renames = false
  watch: SourceWatch | undefined
  readonly #options: BucketFilesOptions
  readonly #baseDir: string
  readonly #closed = new AbortController()
  #connection: Promise<Connection> | undefined
  #outage: AdflowError | undefined
  readonly #ahead: FetchedAhead

  constructor(options: BucketFilesOptions, baseDir: string) {
    this.#options = options
    this.#baseDir = baseDir
    registerKeys(options)
    this.#ahead = new FetchedAhead(options.rangeBytes, (file) =>
      this.#fetch(file, 0, Buffer.allocUnsafeSlow(file.facts.size), this.#stop()),
    )
  }

  get outage(): AdflowError | undefined {
    return this.#outage
  }

  nameOf(path: string): string {
    return `s3://${this.#options.bucket}/${this.#keyOf(path)}`
  }

  async discover(known: readonly KnownLane[], signal: AbortSignal = this.#closed.signal): Promise<Found> {
    this.#outage = undefined
    const { allowEmpty, incremental, lagMs, maxFiles, patterns } = this.#options
    const floor = floorOf(known, incremental)
    const files: SourceFile[] = []
    for await (const file of this.#listed(incremental === 'key' ? floor : undefined, signal)) {
      if (files.length === maxFiles) throw tooMany(this.nameOf(''), maxFiles)
      files.push(file)
    }
    const next = nextFloor(files, known, { incremental, lagMs, floor })
    const wanted = incremental === 'time' && floor !== undefined ? young(files, known, Number(floor)) : files
    wanted.sort((a, b) => naturalOrder(a.path, b.path))
    const empty = files.length === 0 && floor === undefined && !allowEmpty
    return {
      files: wanted,
      problems: empty ? patterns.map((pattern) => this.#nothing(pattern)) : [],
      ...(next === undefined ? {} : { floor: next }),
    }
  }

  async open(file: SourceFile): Promise<OpenFile> {
    const { rangeBytes } = this.#options
    // Memory outside of the heap that is new for each range costs more to collect than to fill.
    const spare: Buffer[] = []
    let early = this.#ahead.take(file)
    return new RangedFile({
      facts: file.facts,
      origin: file.absolute,
      pieceBytes: rangeBytes,
      ahead: AHEAD,
      signal: this.#stop(),
      fetch: async (from, length, signal) => {
        const asked = early
        early = undefined // where it fails it is asked for anew
        if (asked !== undefined) return asked
        const target = length === rangeBytes ? spare.pop() : undefined
        return this.#fetch(file, from, target ?? Buffer.allocUnsafeSlow(length), signal)
      },
      passed: (piece) => {
        if (piece.length === rangeBytes && spare.length < AHEAD) spare.push(piece)
      },
      close: async () => undefined,
    })
  }

  expect(files: readonly SourceFile[]): void {
    this.#ahead.expect(files)
  }

  async siblings(): Promise<readonly SourceFile[]> {
    return []
  }

  async close(): Promise<void> {
    this.#closed.abort()
    const connection = await this.#connection?.catch(() => undefined) // it never opened
    connection?.client.destroy()
  }

  async *#listed(after: string | undefined, signal: AbortSignal): AsyncIterable<SourceFile> {
    const { bucket, excluded, patterns } = this.#options
    const base = this.#keyOf('')
    const within = `${base}${commonFolder(patterns)}`
    let request: { StartAfter?: string; ContinuationToken?: string } =
      after === undefined ? {} : { StartAfter: this.#keyOf(after) }
    for (;;) {
      const page = await this.#asked(`list s3://${bucket}/${within}`, signal, ({ s3, client }) =>
        client.send(new s3.ListObjectsV2Command({ Bucket: bucket, Prefix: within, ...request }), {
          abortSignal: signal,
        }),
      )
      this.watch?.moved(0)
      for (const { Key = '', ETag = '', Size = 0, LastModified } of page.Contents ?? []) {
        const path = Key.slice(base.length)
        // Keys with `/` at the end are what consoles show as folders; what a loader keeps its books in is no data.
        if (path.endsWith('/') || path.startsWith(`${META_FOLDER}/`)) continue
        if (!fitsOne(patterns, path) || fitsOne(excluded, path)) continue
        const modifiedMs = LastModified?.getTime() ?? 0
        const facts = {
          dev: '',
          ino: '',
          born: '',
          size: Size,
          modified: `${modifiedMs}000000`,
          modifiedMs,
          version: ETag,
        }
        yield { path, absolute: this.nameOf(path), facts }
      }
      if (page.NextContinuationToken === undefined) return
      request = { ContinuationToken: page.NextContinuationToken }
    }
  }

  /** Of all that is asked of an object. */
  #stop(): AbortSignal {
    return AbortSignal.any([this.#closed.signal, ...(this.watch === undefined ? [] : [this.watch.givenUp])])
  }

  /** Fills the target. */
  #fetch(file: SourceFile, from: number, target: Buffer, signal: AbortSignal): Promise<Buffer> {
    const { version = '', size } = file.facts
    const { length } = target
    const whole = from === 0 && length === size
    return this.#asked(`read ${file.absolute}`, signal, async ({ s3, client }) => {
      const silence = new Silence(this.#options.timeout)
      const stop = AbortSignal.any([signal, silence.signal])
      const heard = (bytes: number) => {
        silence.heard()
        this.watch?.moved(bytes)
      }
      const chosen = { abortSignal: stop, into: { target, heard } }
      try {
        const answer = await client.send(
          new s3.GetObjectCommand({
            Bucket: this.#options.bucket,
            Key: this.#keyOf(file.path),
            IfMatch: version,
            ...(whole ? {} : { Range: `bytes=${from}-${from + length - 1}` }),
          }),
          chosen,
        )
        if (answer.ETag !== version) throw changed(file, answer.ETag)
        await requireWhole(answer, file, target)
        return target
      } catch (error) {
        if (!silence.signal.aborted) throw error
        throw new AdflowError(
          'SOURCE_UNREADABLE',
          `${file.absolute}: the server said nothing for ${this.#options.timeout / 1000} s`,
          {
            cause: error,
            hint: 'raise `timeout`, or see what keeps the server; the next run goes on where this one stopped',
          },
        )
      } finally {
        silence.end()
      }
    })
  }

  async #asked<T>(doing: string, signal: AbortSignal, work: (connection: Connection) => Promise<T>): Promise<T> {
    if (this.#outage !== undefined) throw this.#outage
    try {
      return await patiently(
        async () => {
          try {
            this.#connection ??= this.#connect()
            return await work(await this.#connection)
          } catch (error) {
            signal.throwIfAborted()
            throw explainSource(error, doing)
          }
        },
        this.#options.retry,
        signal,
      )
    } catch (error) {
      if (error instanceof AdflowError && error.details?.['outage'] === true) this.#outage = error
      throw error
    }
  }

  async #connect(): Promise<Connection> {
    return { s3: await import('@aws-sdk/client-s3'), client: await connectS3(this.#options, this.#baseDir) }
  }

  #keyOf(path: string): string {
    const { prefix } = this.#options
    return prefix === undefined ? path : `${prefix}/${path}`
  }

  #nothing(pattern: string): Found['problems'][number] {
    const origin = this.nameOf(pattern)
    const message = `no object matches ${origin}; check \`prefix\` and \`files\`, or set \`allow_empty: true\``
    return { path: pattern, origin, code: 'SOURCE_MISSING', message }
  }
}

/** Those that were modified since, and those that were begun. */
function young(files: readonly SourceFile[], known: readonly KnownLane[], sinceMs: number): SourceFile[] {
  const begun = new Set(known.filter((lane) => !isFinished(lane)).map(({ lane, mark }) => mark?.path ?? lane))
  return files.filter(({ path, facts }) => facts.modifiedMs >= sinceMs || begun.has(path))
}

/** The body is the target: see IntoBuffer. Read, since the client compares it with a checksum where the server gave one. */
async function requireWhole({ Body }: GetObjectCommandOutput, file: SourceFile, { length }: Buffer): Promise<void> {
  let filled = 0
  for await (const piece of (Body ?? []) as AsyncIterable<Uint8Array>) filled += piece.byteLength
  if (filled > length) throw wrongLength(file, length, 'more')
  if (filled < length) throw wrongLength(file, length, `${filled}`)
}

function wrongLength({ absolute }: SourceFile, length: number, found: string): AdflowError {
  return new AdflowError(
    'SOURCE_UNREADABLE',
    `${absolute}: the server gave ${found} of ${length} bytes that were asked for`,
    {
      hint: 'the server, or a proxy before it, is broken or does not give ranges; the next run goes on where this one stopped',
    },
  )
}

function changed({ absolute, facts }: SourceFile, found: string | undefined): AdflowError {
  return new AdflowError('SOURCE_CHANGED', `${absolute} was replaced: its ETag was ${facts.version} and is ${found}`, {
    hint: 'the next run reads what stands there now',
  })
}

/** Aborts when nothing was heard for so long. */
class Silence {
  readonly #stop = new AbortController()
  readonly #timer: NodeJS.Timeout

  constructor(ms: number) {
    this.#timer = setTimeout(() => this.#stop.abort(), ms)
  }

  get signal(): AbortSignal {
    return this.#stop.signal
  }

  heard(): void {
    this.#timer.refresh()
  }

  end(): void {
    clearTimeout(this.#timer)
  }
}
