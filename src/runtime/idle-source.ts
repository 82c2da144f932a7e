/** The source of batches without a record: see core/idle.ts. */
import { createHash } from 'node:crypto'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Chunk, Extractor, Range } from '../core/contracts.ts'
import { localIoError } from '../core/errors.ts'
import { IDLE_SOURCE } from '../core/idle.ts'
import type { OpenSource } from './workshop.ts'

const ORIGIN = 'silence'
const DIGEST = `sha256:${createHash('sha256').digest('hex')}`

/** It gives nothing but what was planned. */
export function idleExtractor(folder: string): Extractor {
  return {
    replayable: true,
    dataset: () => ({ namespace: 'adflow', name: ORIGIN }),
    async *read({ planned }) {
      for (const range of planned) yield await idleChunk(range, folder)
    },
    survey: async () => [],
    close: async () => undefined,
  }
}

export function idleSource(folder: string): OpenSource {
  const config = {
    id: IDLE_SOURCE,
    type: IDLE_SOURCE,
    options: {},
    path: [],
    optional: false,
    priority: 0,
    giveUpAfterMs: undefined,
    timeLimitMs: undefined,
  }
  return { config, extractor: idleExtractor(folder), silenceMs: Number.POSITIVE_INFINITY }
}

export async function idleChunk({ lane, from, to }: Range, folder: string): Promise<Chunk> {
  const file = join(folder, 'silence.ndjson')
  await writeFile(file, '').catch((error: unknown) => {
    throw localIoError(error, `write ${file}`)
  })
  return {
    range: { lane, from, to },
    origin: ORIGIN,
    file,
    format: { type: 'ndjson' },
    records: 0,
    refused: [],
    bytes: 0,
    digest: DIGEST,
    locate: async () => [],
    raw: async () => [],
    release: () => rm(file, { force: true }),
  }
}
