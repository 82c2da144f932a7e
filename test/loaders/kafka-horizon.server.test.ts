/** What becomes of the entries of batches that no run will ask for: folded, in the transactions of the batches that come. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import type { LoaderDefinition } from '../../src/core/definitions.ts'
import kafka from '../../src/loaders/kafka.ts'
import { DyingProcess } from '../harness/dying-process.ts'
import { readTopic } from '../harness/kafka-reader.ts'
import { requestsAsSteps } from '../harness/kafka-steps.ts'
import { LoaderBench, newFolder, removeFolder } from '../harness/loader.ts'
import { freshName } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { SmallJob } from '../harness/small-job.ts'

const rowsAt = (at: number) => `SELECT ${at}::BIGINT AS id`

await serverSuite('the topic of batches of Kafka', ['kafka'], ({ kafka: { brokers } }) => {
  const values = async (topic: string) => (await readTopic(brokers, topic)).map(({ value }) => String(value))

  it('is folded in the transaction of a batch: killed before any request, all is there once, and the newest can come again', async () => {
    const folder = newFolder()
    const topic = freshName('events')
    const options = { brokers, topic, partitions: 1 }
    const folding = { ...options, remember_batches: 4 }
    const bench = await LoaderBench.open({ definition: kafka as LoaderDefinition, folder, options: [] })
    const history = async (from: ReturnType<LoaderBench['create']>) =>
      (await from.history?.('conformance', { engine: bench.session })) ?? []
    try {
      // As a topic was left by a version that folded nothing.
      let at = 0
      const before = await bench.open(bench.create(options), rowsAt(0))
      for (; at < 12; at += 1) await bench.write(before, { at, rows: rowsAt(at) })
      expect(await history(before)).toHaveLength(12)
      await bench.closeLoaders()

      for (let whole = false, last = 0; !whole; at += 1, last += 1) {
        expect(last).toBeLessThan(40)
        const doomed = await bench.open(bench.create(folding), rowsAt(at))
        const dying = new DyingProcess(last)
        const undo = requestsAsSteps(dying)
        const batch = await bench.batch({ at, rows: rowsAt(at) })
        whole = await dying.run(() => doomed.write(batch, { signal: new AbortController().signal })).finally(undo)
        const heir = await bench.open(bench.create(folding), rowsAt(at))
        expect(await bench.write(heir, { at, rows: rowsAt(at) })).toMatchObject({ rows: 1 })
        const found = await history(heir)
        expect(found.reduce((sum, { folded = 1 }) => sum + folded, 0)).toBe(at + 1)
        expect(found.length).toBeLessThan(12)
        await bench.closeLoaders()
      }
      const heir = await bench.open(bench.create(folding), rowsAt(0))
      expect((await history(heir)).length).toBeLessThan(8)
      expect(await bench.write(heir, { at: at - 1, rows: rowsAt(at - 1) })).toMatchObject({ repeated: true })
      await expect(bench.write(heir, { at: 2, rows: rowsAt(2) })).rejects.toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('(made_up, lane 2–3) reaches back into 0–'),
        hint: expect.stringContaining('adflow recover JOB --force'),
      })
      expect(await values(topic)).toEqual(Array.from({ length: at }, (_, id) => `{"id":${id}}`))
    } finally {
      await bench.closeLoaders()
      bench.close()
      removeFolder(folder)
    }
  }, 60_000)

  it('says so to a run that stands behind it; recover goes on after it, and what dedupe knows stays known', async () => {
    const folder = newFolder()
    const topic = freshName('events')
    try {
      const job = new SmallJob(
        folder,
        `version: 1
name: rows
extract:
  input: { type: files, path: "data/*.ndjson", settle: 0s }
contract:
  columns:
    id: { type: bigint, required: true }
transform:
  - dedupe: { key: [id] }
load:
  published: { type: kafka, brokers: "${brokers}", topic: ${topic}, partitions: 1, remember_batches: 2 }
resources: { chunk: 4kB, in_flight: 1 }
`,
      )
      const lines = (from: number, to: number) =>
        Array.from({ length: to - from }, (_, i) => `{"id":${from + i}}\n`).join('')
      job.put('data/a.ndjson', lines(0, 4000))
      const first = await job.run()
      expect(first.code, first.stdout + first.stderr).toBe(0)
      const batches = job.closedBatches()
      expect(batches).toBeGreaterThan(8)

      const behind = ['state', 'set', job.file, 'input', 'a.ndjson', '0', '--reason', 'x']
      const lanes = (await job.command(['state', 'show', job.file, '--json'])).stdout
      const lane = /"([^"]*a\.ndjson)"/.exec(lanes)?.[1] ?? ''
      const set = await job.command(behind.with(4, lane))
      expect(set.code, set.stderr).toBe(0)
      const refused = await job.run()
      expect(refused.code, refused.stdout).toBe(78)
      expect(refused.stdout).toContain('no longer knows which batches that was')
      expect(refused.stdout).toContain('--force` goes on behind')
      const recovered = await job.command(['recover', job.file, '--force', '--json'])
      expect(recovered.code, recovered.stderr).toBe(0)
      expect(recovered.json()).toMatchObject({ batches, planned: 0, holes: [] })

      // A slot is damaged: the stores are asked, and the marks of what is folded stay.
      writeFileSync(join(job.state, 'checkpoint.b'), 'x')
      job.put('data/b.ndjson', lines(0, 20) + lines(4000, 4010))
      const last = await job.run()
      expect(last.code, last.stdout).toBe(0)
      const ids = (await values(topic)).map((value) => Number(/\d+/.exec(value)?.[0]))
      expect(ids.sort((a, b) => a - b)).toEqual(Array.from({ length: 4010 }, (_, id) => id))
    } finally {
      removeFolder(folder)
    }
  }, 60_000)
})
