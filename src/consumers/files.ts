/** Batches as files for whoever picks them up: data, checksum, and a manifest that comes last. */
import { hash } from 'node:crypto'
import { basename, join, resolve } from 'node:path'
import { z } from 'zod'
import { diagnoseFolder } from '../clients/objects/diagnose.ts'
import {
  compressionFitsFormat,
  encodingOf,
  encodingShape,
  NAME_DIGITS,
  namePrefix,
} from '../clients/objects/encoding.ts'
import { publishBatch } from '../clients/objects/publish.ts'
import { type Manifest, META_FOLDER, type PublishPlace, readManifest } from '../clients/objects/publish-manifest.ts'
import { discardStaged, stageBatch } from '../clients/objects/publish-stage.ts'
import type { Answer, BatchConsumer } from '../core/consumer.ts'
import type { ComponentEnv, LoadBatch } from '../core/contracts.ts'
import { defineConsumer } from '../core/define.ts'
import { writeDurably } from '../core/durable.ts'
import { realPathOf } from '../core/real-path.ts'

const options = z
  .strictObject({
    path: z.string().min(1).describe('The folder, relative to the job file. Created when it is missing.'),
    ...encodingShape,
    name: namePrefix
      .optional()
      .describe('Put before time and token in file names. Default: the id of the consumer and `-`.'),
  })
  .superRefine(compressionFitsFormat)

type Options = z.infer<typeof options>

/** Of this process: no two attempts share a temporary folder. */
let attempts = 0

class Files implements BatchConsumer {
  readonly takes = 'batches'
  readonly endpoints: readonly string[]
  readonly #options: Options
  readonly #id: string
  readonly #folder: string
  readonly #place: PublishPlace
  readonly #prefix: string
  readonly #temporary: string

  constructor(own: Options, { id, job, baseDir }: ComponentEnv) {
    this.#options = own
    this.#id = id
    this.#folder = realPathOf(resolve(baseDir, own.path))
    this.endpoints = [this.#folder]
    this.#prefix = own.name ?? `${id}-`
    this.#place = { folder: this.#folder, prefix: `${id}-`, format: own.format }
    const owner = hash('sha256', JSON.stringify([job, id])).slice(0, 12)
    this.#temporary = join(this.#folder, META_FOLDER, 'tmp', owner)
  }

  async send(batch: LoadBatch): Promise<Answer> {
    const { clock, digest, job, range, source, token } = batch
    const published = await readManifest(this.#place, token)
    if (published !== undefined) return this.#accompany(published)
    attempts += 1
    const temporary = join(this.#temporary, `${token.slice(0, NAME_DIGITS)}.${process.pid}.${attempts}`)
    try {
      const { files, rows } = await stageBatch(batch, {
        ...encodingOf(this.#options),
        partition: {},
        maxPartitions: 1,
        temporary,
        name: `${this.#prefix}${clock.replaceAll(/[-:]|\.\d+/g, '')}-${token.slice(0, NAME_DIGITS)}`,
      })
      const about = { job, source, loader: this.#id, range, token, digest, clock, rows }
      return await this.#accompany(await publishBatch(this.#place, about, files))
    } finally {
      await discardStaged(temporary)
    }
  }

  async close(): Promise<void> {
    // Nothing is held open between batches.
  }

  /** What stands beside the data follows from what was published: written again after a kill, it is the same. */
  async #accompany({ files, clock, job, token }: Manifest): Promise<Answer> {
    const outputs: string[] = []
    for (const { path, rows, bytes, sha256 } of files) {
      const file = basename(path)
      const about = { version: 1, job, consumer: this.#id, id: token, created_at: clock, file, rows, bytes, sha256 }
      await writeDurably(join(this.#folder, `${path}.sha256`), `${sha256}  ${file}\n`)
      await writeDurably(join(this.#folder, `${path}.manifest.json`), `${JSON.stringify(about)}\n`)
      outputs.push(join(this.#folder, path))
    }
    return { outcome: 'delivered', outputs }
  }
}

export default defineConsumer({
  summary: 'Puts batches into a folder as files, each with its checksum and a manifest.',
  description: `A batch becomes \`<name><time>-<24 digits of its token>.<format>\`, with \`….sha256\` (for \`sha256sum -c\`) and, last,
\`….manifest.json\`: job, consumer, id, rows, bytes and digest. Whoever picks files up waits for the manifest: then all is there
and nothing of it changes any more. Every file appears complete or not at all. A batch that comes again after a crash finds its manifest
and writes nothing but what is missing beside the data; the files may be moved away once the manifest is there. A batch without rows makes
no file. What is under \`_adflow\` belongs to adflow.

Batches come one after the other: one that cannot be written holds up those behind it, and none becomes a dead letter. Values are
written as by the [loader of that name](loader-files.md).`,
  options,
  example: { path: 'out/partner', format: 'csv', compression: 'gzip' },
  access({ path }, { baseDir }) {
    return { folders: [realPathOf(resolve(baseDir, path))] }
  },
  diagnose: ({ path }, { baseDir }) => diagnoseFolder(realPathOf(resolve(baseDir, path))),
  create: (own, env) => new Files(own, env),
})
