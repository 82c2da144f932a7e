/** Files on OpenSSH that grow, are written, turn, break off: over a real server, and a network that is cut. */
import { execFileSync } from 'node:child_process'
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import sftp from '../../src/extractors/sftp.ts'
import { temporaryFolder } from '../harness/cli.ts'
import { diagnosed, statuses } from '../harness/diagnosis.ts'
import { type FileRunOptions, readOnce } from '../harness/file-source.ts'
import { type FreshFolder, freshFolder } from '../harness/servers/fresh.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'
import { SmallJob } from '../harness/small-job.ts'

const lines = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, n) => `{"id":${from + n},"name":"name ${from + n}"}\n`).join('')
/** About 10 MB. */
const LARGE = lines(0, 300_000)

await serverSuite('the extractor of SFTP', ['sftp', 'toxiproxy'], ({ sftp: endpoint, toxiproxy }) => {
  let folder: ReturnType<typeof temporaryFolder>
  let remote: FreshFolder
  beforeEach(async () => {
    folder = temporaryFolder('sftp-source')
    remote = await freshFolder(endpoint)
  })
  afterEach(async () => {
    await remote.remove()
    folder.remove()
  })

  const at = (name: string) => join(remote.path, name)
  const settled = (name: string) => utimesSync(at(name), 1_700_000_000, 1_700_000_000)
  const put = (name: string, text: string | Buffer) => {
    writeFileSync(at(name), text)
    settled(name)
  }
  const place = (options: object = {}) => ({
    url: `sftp://${new URL(endpoint.url).username}@${new URL(endpoint.url).host}`,
    path: remote.path,
    private_key: endpoint.privateKey,
    known_hosts: endpoint.knownHosts,
    timeout: '5s',
    retry: { attempts: 4, initial: '10ms', max: '50ms' },
    ...options,
  })
  const run = (options: object = {}, read: FileRunOptions = {}) => readOnce(sftp, place(options), folder.path, read)
  const codes = ({ gaps }: Awaited<ReturnType<typeof run>>) =>
    Object.fromEntries(gaps.map(({ gap, code }) => [gap.lane, code]))

  describe('a file', () => {
    it('that grows is read on from its offset, also under the name that a rotation gives it', async () => {
      put('app.ndjson', `${lines(0, 3)}{"id":`)
      const first = await run({ unterminated: 'wait' })
      expect(first.lanes).toEqual({ 'app.ndjson': lines(0, 3) })
      writeFileSync(at('app.ndjson'), `${lines(0, 3)}${lines(3, 5)}`)
      const second = await run({}, { from: first.positions })
      expect(second.lanes).toEqual({ 'app.ndjson': lines(3, 5) })
      expect(await run({}, { from: second.positions })).toMatchObject({ lanes: {}, gaps: [] })
      appendFileSync(at('app.ndjson'), lines(5, 6))
      renameSync(at('app.ndjson'), at('app.ndjson.1'))
      put('app.ndjson', lines(6, 8))
      const third = await run({ files: '*.ndjson' }, { from: second.positions })
      expect(third.lanes).toEqual({ 'app.ndjson': lines(5, 6), 'app.ndjson#2': lines(6, 8) })
      expect(third.gaps).toEqual([])
    })

    it('that was truncated or replaced is read from its start, and what is lost is a gap', async () => {
      put('a.ndjson', LARGE)
      const first = await run({}, { chunkBytes: 4_000_000 })
      const [begun] = first.ranges
      put('a.ndjson', lines(7, 9))
      const second = await run({}, { from: { 'a.ndjson': { at: begun?.to ?? '', mark: begun?.mark ?? '' } } })
      expect([second.lanes, codes(second)]).toEqual([{ 'a.ndjson#2': lines(7, 9) }, { 'a.ndjson': 'SOURCE_CHANGED' }])
      expect(second.warnings).toEqual([expect.stringContaining('was truncated')])
    })

    it('that shrinks while it is read is a gap, and what came before is kept', async () => {
      put('a.ndjson', LARGE)
      put('b.ndjson', lines(0, 2))
      const found = await run({}, { chunkBytes: 500_000, between: () => truncateSync(at('a.ndjson'), 100) })
      expect(codes(found)).toEqual({ 'a.ndjson': 'SOURCE_CHANGED' })
      expect(LARGE.startsWith(found.lanes['a.ndjson'] ?? '?')).toBe(true)
      expect(found.lanes['b.ndjson']).toBe(lines(0, 2))
    })

    it('that is cut off in its compression is a gap and costs no other', async () => {
      put('cut.ndjson.gz', gzipSync(lines(0, 20_000)).subarray(0, 30_000))
      put('good.csv', 'id,name\n1,a\n')
      const found = await run()
      expect(codes(found)).toEqual({ 'cut.ndjson.gz': 'SOURCE_DAMAGED' })
      expect(found.lanes['good.csv']).toBe('1,a\n')
    })

    it('goes on at its offset when the connection is cut', async () => {
      put('a.ndjson', LARGE)
      await using proxy = await proxyFor(toxiproxy, new URL(endpoint.url).host)
      const knownHosts = join(folder.path, 'known_hosts')
      writeFileSync(knownHosts, readFileSync(endpoint.knownHosts, 'utf8').replace(/:\d+/, `:${proxy.port}`))
      const url = `sftp://${new URL(endpoint.url).username}@127.0.0.1:${proxy.port}`
      // Each connection breaks after so many bytes: four of them are needed at least.
      await proxy.add({ type: 'limit_data', bytes: 3_500_000 })
      const found = await run({ url, known_hosts: knownHosts })
      expect([found.lanes['a.ndjson'] === LARGE, found.gaps]).toEqual([true, []])
    })
  })

  describe('a file that is still written waits', () => {
    it('by its name', async () => {
      put('a.ndjson.part', lines(0, 1))
      put('b.ndjson', lines(1, 2))
      put('c.ndjson.writing', lines(2, 3))
      const own = await run({ writing: { names: '*.writing' }, exclude: '*.part' })
      expect([(await run({ exclude: '*.writing' })).lanes, own.lanes]).toEqual([
        { 'b.ndjson': lines(1, 2) },
        { 'b.ndjson': lines(1, 2) },
      ])
    })

    it('until its marker is there, also when it was begun', async () => {
      mkdirSync(at('x'))
      for (const name of ['x/a.ndjson', 'x/b.ndjson']) put(name, lines(0, 1))
      put('x/b.ndjson.done', '')
      const options = { files: '**/*.ndjson', writing: { marker: '{name}.done' } }
      const first = await run(options)
      expect([first.lanes, first.gaps]).toEqual([{ 'x/b.ndjson': lines(0, 1) }, []])
      const begun = await run({}, { chunkBytes: 1, until: 'now' })
      const mark = JSON.stringify({ ...JSON.parse(String(begun.positions['x/a.ndjson']?.mark)), ended: false })
      const from = { 'x/a.ndjson': { at: String(lines(0, 1).length), mark } }
      expect((await run(options, { from })).gaps).toEqual([])
    })

    it('until its size is the same in two listings', async () => {
      put('still.ndjson', lines(0, 1))
      put('growing.ndjson', lines(0, 1))
      const growing = setInterval(() => appendFileSync(at('growing.ndjson'), lines(1, 2)), 10)
      try {
        const found = await run({ writing: { stable: '300ms' } })
        expect([found.lanes, found.gaps]).toEqual([{ 'still.ndjson': lines(0, 1) }, []])
      } finally {
        clearInterval(growing)
      }
    })
  })

  describe('a folder', () => {
    it('is not left: links that lead out are gaps, those within are followed', async () => {
      const outside = join(folder.path, 'outside.ndjson')
      writeFileSync(outside, lines(0, 1))
      mkdirSync(at('in'))
      put('in/real.ndjson', lines(1, 2))
      symlinkSync(outside, at('out.ndjson'))
      symlinkSync(folder.path, at('folder'))
      symlinkSync(at('in/real.ndjson'), at('within.ndjson'))
      symlinkSync(at('nowhere'), at('dangling.ndjson'))
      execFileSync('mkfifo', [at('pipe.ndjson')])
      const found = await run({ files: '**/*.ndjson' })
      expect(found.lanes).toEqual({ 'in/real.ndjson': lines(1, 2), 'within.ndjson': lines(1, 2) })
      expect(codes(found)).toEqual({
        'out.ndjson': 'SOURCE_UNSUPPORTED',
        'dangling.ndjson': 'SOURCE_UNSUPPORTED',
        'pipe.ndjson': 'SOURCE_UNSUPPORTED',
      })
    })

    it('with many files is read over one connection', async () => {
      for (let n = 0; n < 40; n += 1) put(`part-${n}.ndjson`, lines(n, n + 1))
      const found = await run({}, { parallel: 16 })
      expect([Object.keys(found.lanes).length, found.gaps]).toEqual([40, []])
    })
  })

  describe('a server', () => {
    it.for([
      [{ host_key: `SHA256:${'A'.repeat(43)}`, known_hosts: undefined }, 'SOURCE_DENIED', 77],
      [{ private_key: undefined, password: 'a wrong one' }, 'SOURCE_DENIED', 77],
      [{ path: '/nobody/made/this' }, 'SOURCE_MISSING', 69],
      [{ url: 'sftp://someone@127.0.0.1:1' }, 'SOURCE_UNREADABLE', 69],
    ] as const)('with %j is one gap, and the doctor says so before', async ([wrong, code, exit]) => {
      const job = new SmallJob(
        folder.path,
        `version: 1
name: rows
extract: { input: ${JSON.stringify({ type: 'sftp', ...place(wrong) })} }
contract: { columns: { id: { type: bigint, required: true } } }
load: { warehouse: { type: duckdb, path: warehouse.duckdb, table: rows } }
`,
      )
      const result = await job.run()
      expect(result.json()).toMatchObject({ exit, gaps: [{ source: 'input', code }] })
      expect(result.code).toBe(exit)
      expect(result.stdout + result.stderr).not.toContain('a wrong one')
      const findings = await diagnosed(sftp, place(wrong))
      expect(findings).toContainEqual(expect.objectContaining({ status: 'failed', code }))
    })

    it('is found in order by the doctor', async () => {
      put('a.ndjson', lines(0, 3))
      expect(statuses(await diagnosed(sftp, place()))).toEqual({
        reachable: 'ok',
        tls: 'ok',
        target: 'ok',
        permission: 'ok',
      })
    })
  })
})
