import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { PageSink } from '../../../src/clients/staging/fetcher.ts'
import { RowPages } from '../../../src/clients/staging/row-pages.ts'

/** What is written between two ends of pages. */
class Written implements PageSink {
  readonly pages: string[] = []
  #page = ''

  isFullBy(): boolean {
    return false
  }

  get pageBytes(): number {
    return this.#page.length
  }

  async write(bytes: Buffer): Promise<void> {
    this.#page += bytes.toString()
  }

  async page(): Promise<void> {
    this.pages.push(this.#page)
    this.#page = ''
  }

  async drop(): Promise<void> {
    this.#page = ''
  }

  async format(): Promise<void> {}
}

const rows = fc.array(fc.record({ tie: fc.boolean(), known: fc.boolean() }), { minLength: 1, maxLength: 200 })

it('a page ends where the cursor changes, and its place is that of its last row, whatever the pieces', async () => {
  await fc.assert(
    fc.asyncProperty(
      rows,
      fc.integer({ min: 1, max: 300 }),
      fc.array(fc.integer({ min: 1, max: 40 })),
      async (kinds, pageBytes, cuts) => {
        let at = 0
        const lines = kinds.map(({ tie }, n) => {
          if (!tie) at += 1
          return `{"at":"${at}","n":${n}}\n`
        })
        const sink = new Written()
        const places: (readonly string[])[] = []
        const pages = new RowPages(sink, {
          cursor: ['at'],
          pageBytes,
          isKnown: (bytes, from, to) =>
            kinds[Number(/"n":(\d+)/.exec(bytes.toString('utf8', from, to))?.[1])]?.known === true,
          ended: async (place) => {
            places.push(place)
            await sink.page()
          },
        })
        let from = 0
        for (const count of [...cuts, lines.length]) {
          const piece = Buffer.from(lines.slice(from, from + count).join(''))
          if (piece.length > 0) await pages.take(piece, 0, piece.length)
          from += count
        }
        await sink.page()
        expect(pages.rows).toBe(lines.length)
        expect(sink.pages.join('')).toBe(lines.filter((_, n) => kinds[n]?.known !== true).join(''))
        const bounds = [...places, pages.place ?? []].map(([place]) => Number(place))
        sink.pages.forEach((page, index) => {
          for (const [, place] of page.matchAll(/"at":"(\d+)"/g)) {
            expect(Number(place)).toBeLessThanOrEqual(bounds[index] ?? -1)
            if (index > 0) expect(Number(place)).toBeGreaterThan(bounds[index - 1] ?? -1)
          }
        })
        expect(bounds.at(-1)).toBe(at)
      },
    ),
  )
})
