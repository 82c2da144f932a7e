/** What every lineage transport must do: docs/component-contract.md, sentences marked [T]. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import pino from 'pino'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { LineageTransport, TransportDefinition } from '../../../src/core/transport.ts'

export interface TransportFixture<Options> {
  readonly definition: TransportDefinition<Options>
  readonly options: Readonly<Record<string, unknown>>
  /** What has arrived on the other side, in order. */
  received(folder: string): Promise<unknown[]>
  /** Takes the other side down, and brings it back as it was. */
  down(folder: string): Promise<void>
  up(folder: string): Promise<void>
}

export function transportConformance<Options>(name: string, fixture: TransportFixture<Options>): void {
  describe(`transport ${name}`, () => {
    const signal = new AbortController().signal
    const event = (n: number) => ({ eventType: 'OTHER', n, text: 'Grüße\n"1" 🦆', nested: { list: [1, null, true] } })
    let folder: string
    let transport: LineageTransport
    const create = () => {
      const options = fixture.definition.options.parse(fixture.options)
      const env = { id: 'lineage', job: 'job', baseDir: folder, log: pino({ level: 'silent' }) }
      return fixture.definition.create(options, env)
    }
    beforeEach(() => {
      folder = mkdtempSync(join(tmpdir(), 'adflow-transport-'))
      transport = create()
    })
    afterEach(async () => {
      await transport.close()
      rmSync(folder, { recursive: true, force: true })
    })

    it('has an example that its own options accept', () => {
      expect(fixture.definition.options.safeParse(fixture.definition.example).success).toBe(true)
    })

    it('delivers each event whole and in order, whoever sends the next', async () => {
      for (let n = 0; n < 20; n += 1) await transport.send(event(n), { signal })
      const other = create()
      await other.send(event(20), { signal })
      await other.close()
      expect(await fixture.received(folder)).toEqual(Array.from({ length: 21 }, (_, n) => event(n)))
    })

    it('mixes no events of senders at the same time', async () => {
      const others = [transport, create(), create()]
      await Promise.all(
        others.map(async (each, who) => {
          for (let n = 0; n < 20; n += 1) await each.send(event(who * 100 + n), { signal })
        }),
      )
      for (const each of others) await each.close()
      const numbers = (await fixture.received(folder)).map((each) => (each as { n: number }).n)
      expect(numbers.toSorted((a, b) => a - b)).toEqual(
        [0, 100, 200].flatMap((base) => Array.from({ length: 20 }, (_, n) => base + n)),
      )
    })

    it('is made while the other side is down, says so when it sends, and delivers when it is back', async () => {
      await fixture.down(folder)
      const early = create()
      await expect(early.send(event(1), { signal })).rejects.toMatchObject({ code: expect.any(String) })
      await fixture.up(folder)
      await early.send(event(2), { signal })
      await early.close()
      expect(await fixture.received(folder)).toContainEqual(event(2))
    })

    it('may be closed twice', async () => {
      await transport.close()
      await transport.close()
    })
  })
}
