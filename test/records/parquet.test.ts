import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { ParquetFooters, rowRanges } from '../../src/records/parquet.ts'

const groups = [100, 100, 50, 400, 10].map((rows) => ({ rows, bytes: rows * 10 }))

describe('row ranges', () => {
  it.each([
    [
      0,
      2000,
      [
        [0, 200],
        [200, 250],
        [250, 650],
        [650, 660],
      ],
    ],
    [
      0,
      1,
      [
        [0, 100],
        [100, 200],
        [200, 250],
        [250, 650],
        [650, 660],
      ],
    ],
    [0, 1e9, [[0, 660]]],
    [
      200,
      2000,
      [
        [200, 250],
        [250, 650],
        [650, 660],
      ],
    ],
    [
      130,
      1,
      [
        [130, 200],
        [200, 250],
        [250, 650],
        [650, 660],
      ],
    ],
    [660, 2000, []],
  ])('from row %d with about %d bytes are whole row groups', (from, target, expected) => {
    expect(rowRanges(groups, from, target).map((range) => [range.from, range.to])).toEqual(expected)
  })
})

describe('footers', () => {
  it('are read from a file that nobody here made', async () => {
    const footers = new ParquetFooters()
    const found = await footers.read(
      fileURLToPath(new URL('../../node_modules/vega-datasets/data/flights-3m.parquet', import.meta.url)),
    )
    expect(found.reduce((sum, group) => sum + group.rows, 0)).toBe(3_000_000)
    await footers.close()
  })

  it('that are none are called damaged', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'adflow-parquet-'))
    await writeFile(join(folder, 'a.parquet'), 'PAR1 not really PAR1')
    const footers = new ParquetFooters()
    await expect(footers.read(join(folder, 'a.parquet'))).rejects.toMatchObject({ code: 'SOURCE_DAMAGED' })
    await footers.close()
    await rm(folder, { recursive: true })
  })
})
