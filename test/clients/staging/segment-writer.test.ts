import { type FileHandle, mkdtemp, open, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { StagedLane } from '../../../src/clients/staging/staged-lane.ts'

const MIB = 1 << 20
const PAGE = Buffer.from(`${JSON.stringify({ text: 'x'.repeat(MIB - 12) })}\n`)

let folder: string
let handles: FileHandle

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-segment-'))
  const one = await open(join(folder, 'one'), 'w')
  handles = Object.getPrototypeOf(one) as FileHandle
  await one.close()
})
afterEach(async () => {
  vi.restoreAllMocks()
  await rm(folder, { recursive: true, force: true })
})

const opened = () => StagedLane.open(join(folder, 'staged'), 'l', { at: 0, lines: 0, cursor: null })

/** A segment of so many pages of 1 MiB each. */
async function written(lane: StagedLane, pages: number) {
  const writer = lane.begin({ type: 'ndjson' }, 2 * MIB)
  for (let page = 0; page < pages; page += 1) {
    await writer.write(PAGE, 1)
    await writer.endPage()
  }
  return writer
}

describe('a segment that grows', () => {
  it('is brought to the disk meanwhile, one piece after the other', async () => {
    let underWay = 0
    let most = 0
    const { datasync } = handles
    const syncs = vi.spyOn(handles, 'datasync').mockImplementation(async function (this: FileHandle) {
      underWay += 1
      most = Math.max(most, underWay)
      await datasync.call(this)
      underWay -= 1
    })
    const lane = await opened()
    const writer = await written(lane, 40)
    await writer.close()
    expect(most).toBe(1)
    expect(underWay).toBe(0)
    expect(syncs.mock.calls.length).toBeGreaterThan(0)
    expect(syncs.mock.calls.length).toBeLessThanOrEqual(5)
    const segment = await lane.seal(writer, { type: 'ndjson' }, 'c')
    expect(segment).toMatchObject({ from: 0, to: 40 * PAGE.length, lineEnds: 40 })
    expect((await readFile(lane.fileOf(segment))).equals(Buffer.concat(Array(40).fill(PAGE)))).toBe(true)
  })

  it('is brought there also after a long page that is given up', async () => {
    const syncs = vi.spyOn(handles, 'datasync').mockResolvedValue(undefined)
    const lane = await opened()
    const writer = lane.begin({ type: 'ndjson' }, 2 * MIB)
    for (let piece = 0; piece < 40; piece += 1) await writer.write(PAGE, 1)
    await writer.dropPage()
    const before = syncs.mock.calls.length
    for (let piece = 0; piece < 20; piece += 1) await writer.write(PAGE, 1)
    await writer.endPage()
    await writer.close()
    expect(syncs.mock.calls.length).toBeGreaterThan(before)
    expect(await lane.seal(writer, { type: 'ndjson' }, 'c')).toMatchObject({ from: 0, to: 20 * PAGE.length })
  })

  it('does not count as kept where some of it did not reach the disk, though a later sync succeeds', async () => {
    const { datasync } = handles
    const lost = Object.assign(new Error('EIO: i/o error, fdatasync'), { code: 'EIO' })
    const syncs = vi.spyOn(handles, 'datasync').mockRejectedValueOnce(lost).mockImplementation(datasync)
    const lane = await opened()
    const writer = await written(lane, 40)
    await expect(lane.seal(writer, { type: 'ndjson' }, 'c')).rejects.toMatchObject({
      code: 'LOCAL_IO',
      message: expect.stringContaining('EIO'),
    })
    await writer.discard()
    expect(syncs).toHaveBeenCalled()
    expect(lane.segments).toEqual([])
    expect(await readdir(lane.folder)).toEqual([])
    expect(lane.end).toEqual({ at: 0, lines: 0, cursor: null })
  })

  it('can be given up while it is on its way', async () => {
    const { promise, resolve } = Promise.withResolvers<void>()
    vi.spyOn(handles, 'datasync').mockReturnValue(promise)
    const lane = await opened()
    const writer = await written(lane, 9)
    const gone = writer.discard()
    expect(await readdir(lane.folder)).toHaveLength(1)
    resolve()
    await gone
    expect(await readdir(lane.folder)).toEqual([])
  })
})
