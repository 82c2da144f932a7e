/** How the end of a slot is written down. */
import type { RunEnd } from './child-run.ts'
import type { OpenSlot, SlotEnd } from './slot-book.ts'

const MESSAGE = 500

export function slotEnd(
  { id, job, at, kind, shard, attempts }: OpenSlot,
  { exit, seconds, code, message, result }: RunEnd,
  { status, ok = false, nowMs }: { readonly status: string; readonly ok?: boolean; readonly nowMs: number },
): SlotEnd {
  return {
    id,
    job,
    at,
    kind,
    ...(shard === undefined ? {} : { shard }),
    status,
    ok,
    exit,
    attempts,
    ended_at: new Date(nowMs).toISOString(),
    seconds,
    ...(code === undefined ? {} : { code }),
    ...(message === undefined ? {} : { message: message.slice(0, MESSAGE) }),
    ...(result === undefined ? {} : { result }),
  }
}
