/** What there is to read of a lane, told without reading it. */
import type { LaneSurvey } from '../../core/lane-survey.ts'
import type { FileLane } from './lanes.ts'

export function surveyed({ lane, file, at, mark, state }: FileLane): LaneSurvey {
  const { size } = file.facts
  const shared = { lane, origin: file.absolute, at: String(at) }
  if (state === 'done') return { ...shared, end: String(at), bytesLeft: 0, state }
  if (mark?.rows !== undefined)
    return { ...shared, end: String(mark.rows), bytesLeft: partLeft(size, at, mark.rows), state }
  if (mark !== undefined && mark.raw !== at) return { ...shared, bytesLeft: Math.max(0, size - mark.raw), state }
  const plain = !/\.(?:gz|gzip|zst|zstd|parquet|pq)$/i.test(file.path)
  return { ...shared, ...(plain ? { end: String(size) } : {}), bytesLeft: Math.max(0, size - at), state }
}

function partLeft(size: number, at: number, rows: number): number {
  return rows === 0 ? 0 : Math.round((size * (rows - at)) / rows)
}
