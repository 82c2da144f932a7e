/** Objects of a bucket, as a reader sees them. */
import { mkdirSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { GetObjectCommand, ListObjectsV2Command, type S3Client } from '@aws-sdk/client-s3'
import { DuckDBInstance } from '@duckdb/node-api'
import pLimit from 'p-limit'
import type { S3Endpoint } from '../../test/harness/servers/core/s3.ts'
import { s3Client } from '../../test/harness/servers/s3-client.ts'
import { DIGEST, PARTITIONS, type Sums, sumsOf } from './ad-events.ts'
import { keyed, MEASURED_OF, type SeenEvent, type StoreView, type WindowRows } from './store-view.ts'

/** Ten seconds of event time of objects have a prefix of their own. */
const SLOT_MS = 10_000

/** Objects of a bucket. It is listed. Objects of windows are read at once, their rows as seen when their bytes are here: an engine of the
 *  reader's own, started for each, would be of no store's time. Objects of events are read at the end, as seen when they were first listed. */
export class S3View implements StoreView {
  readonly name = 's3'
  readonly #client: S3Client
  readonly #bucket: string
  readonly #shiftMs: number
  readonly #folder: string
  readonly #firstSeen = new Map<string, number>()
  readonly #rows = new Map<string, readonly string[]>()
  readonly #engine = DuckDBInstance.create()
  #gets = 0

  /** `shiftMs`: how far behind the clock event time is. */
  constructor(
    endpoint: S3Endpoint,
    place: { readonly bucket: string; readonly shiftMs: number; readonly folder: string },
  ) {
    this.#client = s3Client(endpoint)
    this.#bucket = place.bucket
    this.#shiftMs = place.shiftMs
    this.#folder = place.folder
  }

  async windows(seen: (key: string, atMs: number) => void): Promise<void> {
    for (const key of await this.#look('windows/minute=')) {
      const files = await this.#get([key])
      const now = Date.now()
      const columns = 'epoch_ms(window_start), campaign_id, events, (spend * 1000000)::HUGEINT, ids, digest'
      for (const row of await this.#read(files, columns)) {
        const name = `${row[0]}:${row[1]}`
        this.#rows.set(name, row)
        seen(name, now)
      }
    }
  }

  async events(): Promise<void> {
    const slot = Math.floor((Date.now() - this.#shiftMs) / SLOT_MS)
    await Promise.all([slot - 1, slot].map((own) => this.#look(`events/slot=${own}/`)))
  }

  async count(table: 'windows' | 'events'): Promise<number | undefined> {
    return table === 'windows' ? this.#rows.size : undefined
  }

  async allWindows(): Promise<WindowRows> {
    return keyed([...this.#rows.values()])
  }

  async allEvents(seen: SeenEvent): Promise<Sums> {
    await this.#look('events/slot=')
    const keys = [...this.#firstSeen.keys()]
    const sums = 'count(*), (sum(cost) * 1000000)::HUGEINT, sum(event_id)'
    const files = await this.#get(keys)
    const [all] = await this.#read(files, `${sums}, sum(${DIGEST})`)
    const measured = `event_id >= 0 AND event_id % ${MEASURED_OF} < ${PARTITIONS}`
    const rows = await this.#read(files, `filename, sent, count(*)`, `WHERE ${measured} GROUP BY ALL`)
    for (const [file = '', sent, times] of rows) {
      const at = this.#firstSeen.get(keys[Number(/(\d+)\.parquet$/.exec(file)?.[1])] ?? '') ?? Number.NaN
      for (let index = 0; index < Number(times); index += 1) seen(Number(sent), at)
    }
    return sumsOf(all ?? [])
  }

  async close(): Promise<void> {
    this.#client.destroy()
    ;(await this.#engine).closeSync()
  }

  /** Objects that were not there before. */
  async #look(prefix: string): Promise<readonly string[]> {
    const found: string[] = []
    let after: string | undefined
    for (;;) {
      const listed = await this.#list(prefix, after)
      const now = Date.now()
      for (const { Key = '' } of listed?.Contents ?? []) {
        after = Key
        if (this.#firstSeen.has(Key) || !Key.endsWith('.parquet')) continue
        this.#firstSeen.set(Key, now)
        found.push(Key)
      }
      if (listed?.IsTruncated !== true) return found
    }
  }

  async #list(prefix: string, after: string | undefined) {
    try {
      const own = { Bucket: this.#bucket, Prefix: prefix, ...(after === undefined ? {} : { StartAfter: after }) }
      return await this.#client.send(new ListObjectsV2Command(own))
    } catch (error) {
      if ((error as { name?: string }).name === 'NoSuchBucket') return undefined
      throw error
    }
  }

  /** @returns files of their bytes */
  async #get(keys: readonly string[]): Promise<readonly string[]> {
    mkdirSync(this.#folder, { recursive: true })
    this.#gets += 1
    const nth = this.#gets
    const limit = pLimit(16)
    const files = keys.map((key, index) =>
      limit(async () => {
        const { Body } = await this.#client.send(new GetObjectCommand({ Bucket: this.#bucket, Key: key }))
        const file = join(this.#folder, `${nth}-${index}.parquet`)
        await writeFile(file, (await Body?.transformToByteArray()) ?? new Uint8Array())
        return file
      }),
    )
    return Promise.all(files)
  }

  async #read(files: readonly string[], select: string, rest = ''): Promise<readonly (readonly string[])[]> {
    if (files.length === 0) return []
    const list = files.map((file) => `'${file}'`).join(', ')
    const connection = await (await this.#engine).connect()
    const from = `FROM read_parquet([${list}], filename = true, hive_partitioning = false) ${rest}`
    const reader = await connection.runAndReadAll(`SELECT CAST(COLUMNS(*) AS VARCHAR) FROM (SELECT ${select} ${from})`)
    connection.closeSync()
    return reader.getRows() as string[][]
  }
}
