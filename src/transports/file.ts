import { type FileHandle, mkdir, open, stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import { z } from 'zod'
import { writableFindings } from '../clients/objects/diagnose.ts'
import { defineTransport } from '../core/define.ts'
import { appendDurably, syncDirectory } from '../core/durable.ts'
import { localIoError } from '../core/errors.ts'
import { diagnosisAt } from '../core/findings.ts'
import type { LineageTransport } from '../core/transport.ts'

export default defineTransport({
  summary: 'Appends events to a file, one JSON object a line.',
  description: [
    'Each event is one write and one sync, so that several jobs may share a file. The options are those of the file transport of the OpenLineage clients; `append: false`, a file for each event, is not offered.',
    'A write that a crash cut off leaves a line that is no JSON; the next event begins a line of its own. The file is not rotated: move it away when you like, the next event makes a new one.',
  ].join('\n\n'),
  options: z
    .strictObject({
      log_file_path: z
        .string()
        .min(1)
        .describe(
          'The file, relative to the folder of the job file. It is created, with its folder, when it is missing.',
        ),
      append: z.literal(true).default(true).describe('All events go to one file.'),
    })
    .describe('Where the file is.'),
  example: { log_file_path: 'lineage.ndjson' },
  diagnose({ log_file_path }, { baseDir }) {
    const file = resolve(baseDir, log_file_path)
    return diagnosisAt(file, async function* (at) {
      yield* await writableFindings(at, file, 'file')
    })
  },
  create({ log_file_path }, env) {
    return new FileTransport(resolve(env.baseDir, log_file_path))
  },
})

class FileTransport implements LineageTransport {
  readonly #path: string

  constructor(path: string) {
    this.#path = path
  }

  async send(event: Readonly<Record<string, unknown>>): Promise<void> {
    try {
      await mkdir(dirname(this.#path), { recursive: true })
      const created = await stat(this.#path).then(
        () => false,
        () => true,
      )
      // Opened for each event: whoever moved the file away gets no more of it.
      const handle = await open(this.#path, 'a+')
      try {
        const line = `${(await endsInLineFeed(handle)) ? '' : '\n'}${JSON.stringify(event)}\n`
        await appendDurably(handle, line, this.#path)
      } finally {
        await handle.close()
      }
      if (created) await syncDirectory(dirname(this.#path))
    } catch (error) {
      throw localIoError(error, `append a lineage event to ${this.#path}`)
    }
  }

  async close(): Promise<void> {
    // Nothing is held open between events.
  }
}

async function endsInLineFeed(handle: FileHandle): Promise<boolean> {
  const { size } = await handle.stat()
  if (size === 0) return true
  const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, size - 1)
  return buffer[0] === 0x0a
}
