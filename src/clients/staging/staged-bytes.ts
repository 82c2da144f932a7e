/** The bytes of several segments as one stream. */
import type { ByteSource } from '../../records/window.ts'
import { LocalFile } from '../objects/local-file.ts'
import type { StagedLane } from './staged-lane.ts'

/** From a position to the end of what is staged of the lane. */
export function stagedBytes(lane: StagedLane, from: number): ByteSource {
  let at = from
  let open: { readonly file: LocalFile; readonly from: number; readonly to: number } | undefined
  const close = async () => {
    await open?.file.close()
    open = undefined
  }
  return {
    read: async (target, offset, length) => {
      if (open === undefined || at >= open.to) {
        await close()
        const segment = lane.at(at)
        if (segment === undefined) return 0
        open = { file: await LocalFile.open(lane.fileOf(segment)), from: segment.from, to: segment.to }
      }
      const count = await open.file.readAt(target, offset, Math.min(length, open.to - at), at - open.from)
      at += count
      return count
    },
    close,
  }
}
