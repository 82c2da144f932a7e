/** Writes batches one after another until it is killed; prints each when it is durable. */
import type { LoaderDefinition } from '../../src/core/definitions.ts'
import { LoaderBench } from './loader.ts'

export interface ChildOrder {
  /** File name in src/loaders. */
  readonly type: string
  readonly folder: string
  readonly options: Readonly<Record<string, unknown>>
  readonly from: number
  readonly to: number
}

/** Rows of a batch, the same in every process: 200 ids of its own. */
export function childRows(at: number): string {
  return `SELECT ${at} * 200 + i AS id, 'name ' || i AS name, ['a', 'b', 'c'][1 + i % 3] AS kind FROM range(200) AS t(i)`
}

if (process.argv[2] !== undefined) {
  const { folder, from, options, to, type } = JSON.parse(process.argv[2]) as ChildOrder
  const module = (await import(`../../src/loaders/${type}.ts`)) as { default: LoaderDefinition }
  const bench = await LoaderBench.open({ definition: module.default, folder, options: [options] })
  const loader = await bench.open(bench.create(options), childRows(0))
  for (let at = from; at < to; at += 1) {
    await bench.write(loader, { at, rows: childRows(at) })
    process.stdout.write(`${at}\n`)
  }
  await loader.close()
  bench.close()
}
