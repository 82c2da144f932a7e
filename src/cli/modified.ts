/** `--from` and `--to` of run: points in time, or ages. */
import { AdflowError } from '../core/errors.ts'
import { parseDuration } from '../core/job/units.ts'

export function parseModified(
  from?: string,
  to?: string,
  now = Date.now(),
): { modified?: { from?: number; to?: number } } {
  if (from === undefined && to === undefined) return {}
  return {
    modified: {
      ...(from === undefined ? {} : { from: parsePoint('--from', from, now) }),
      ...(to === undefined ? {} : { to: parsePoint('--to', to, now) }),
    },
  }
}

function parsePoint(flag: string, text: string, now: number): number {
  const age = parseDuration(text)
  if (age !== undefined) return now - age
  // A date alone is midnight UTC, as everywhere in adflow.
  const point = Date.parse(/[Tt ].*(Z|[+-]\d\d:?\d\d)$/.test(text) || !/[Tt ]/.test(text) ? text : `${text}Z`)
  if (!Number.isNaN(point)) return point
  throw new AdflowError('USAGE', `${flag} ${text} is not a time`, {
    hint: 'write 2026-03-01, 2026-03-01T12:00:00Z, or an age such as 24h',
  })
}
