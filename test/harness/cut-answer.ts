/** What becomes of a batch when the answers of its store are cut off. */
import { expect } from 'vitest'
import type { Loader } from '../../src/core/contracts.ts'
import type { BatchSpec, LoaderBench } from './loader.ts'
import type { ProxyForServer } from './servers/toxics.ts'

/** The loader heard everything, or the batch was there and it did not hear so, or it was not. */
export type Fate = 'whole' | 'landed' | 'lost'

export interface Cutting {
  readonly bench: LoaderBench
  readonly loader: Loader
  /** Between the two. */
  readonly proxy: ProxyForServer
}

/** After so many bytes of a connection. The next attempt must bring or find `rows` rows. */
export async function cutAnswer(
  { bench, loader, proxy }: Cutting,
  bytes: number,
  spec: BatchSpec,
  rows: number,
): Promise<Fate> {
  const remove = await proxy.add({ type: 'limit_data', bytes }, 'downstream')
  const first = await failing(bench.write(loader, spec))
  await remove()
  await proxy.down()
  await proxy.up()
  const again = await bench.write(loader, spec)
  if (first !== undefined) expect(first).toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true })
  expect(again.rows).toBe(rows)
  if (first === undefined) return 'whole'
  return again.repeated ? 'landed' : 'lost'
}

/** With what it rejects; undefined: it does not. */
export function failing(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => undefined,
    (error: unknown) => error,
  )
}
