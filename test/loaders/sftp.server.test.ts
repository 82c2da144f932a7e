import { execFileSync } from 'node:child_process'
import { createHash, randomUUID } from 'node:crypto'
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import ssh2 from 'ssh2'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type { LoaderDefinition } from '../../src/core/definitions.ts'
import sftp from '../../src/loaders/sftp.ts'
import { cutAnswer, failing } from '../harness/cut-answer.ts'
import { LoaderBench, newFolder, removeFolder } from '../harness/loader.ts'
import { type FreshFolder, freshFolder } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import type { SftpEndpoint } from '../harness/servers/sftp.ts'
import { downloadFolder, sftpClient } from '../harness/servers/sftp-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { proxyFor } from '../harness/servers/toxics.ts'

type Options = Readonly<Record<string, unknown>>

const ROWS = "SELECT i::BIGINT AS id, 'name ' || i AS name FROM range(4) t(i)"
/** About 4 MB, which no encoding makes smaller. */
const LARGE = 'SELECT i::BIGINT AS id, md5(i::VARCHAR) || md5((-i)::VARCHAR) AS name FROM range(57000) t(i)'

const loginOf = ({ knownHosts, privateKey, url }: SftpEndpoint, address = new URL(url).host): Options => ({
  url: `sftp://${new URL(url).username}@${address}`,
  private_key: privateKey,
  known_hosts: knownHosts,
  connect_timeout: '5s',
  timeout: '5s',
})

await serverSuite('the loader of SFTP', ['sftp', 'toxiproxy'], ({ sftp: endpoint, toxiproxy }) => {
  let folder: string
  let bench: LoaderBench
  let place: FreshFolder
  beforeEach(async () => {
    folder = newFolder()
    place = await freshFolder(endpoint)
    bench = await LoaderBench.open({ definition: sftp as LoaderDefinition, folder, options: [] })
  })
  afterEach(async () => {
    vi.restoreAllMocks()
    await bench.closeLoaders()
    bench.close()
    await place.remove()
    removeFolder(folder)
  })

  const loaderOf = (options: Options = {}) =>
    bench.create({ path: place.path, format: 'csv', ...loginOf(endpoint), ...options })
  const opened = (options: Options = {}, rows = ROWS) => bench.open(loaderOf(options), rows)
  /** Files that are there, with the digits of tokens as T; each published one has the bytes that its manifest names. */
  const found = async (from: SftpEndpoint = endpoint, path = place.path) => {
    const to = join(folder, 'spill', randomUUID())
    const client = await sftpClient(from)
    const names = await downloadFolder(client, path, to)
    await client.end()
    for (const name of names.filter((own) => /^_adflow\/[^/]*\.json$/.test(own)))
      for (const { path: own, sha256 } of JSON.parse(readFileSync(join(to, name), 'utf8')).files ?? [])
        expect(
          createHash('sha256')
            .update(readFileSync(join(to, own)))
            .digest('hex'),
          own,
        ).toBe(sha256)
    const data = names.filter((name) => !name.startsWith('_adflow/')).map((name) => `'${join(to, name)}'`)
    const [row = {}] =
      data.length === 0
        ? [{ rows: 0, ids: 0 }]
        : await bench.session.rows(
            `SELECT count(*)::INTEGER AS rows, count(DISTINCT id)::INTEGER AS ids FROM read_csv([${data.join(', ')}], hive_partitioning = false)`,
          )
    return {
      names: names.map((name) => name.replace(/[0-9a-f]{64}|[0-9a-f]{24}(?=\.csv)/, 'T')),
      rows: row['rows'],
      ids: row['ids'],
    }
  }
  const PUBLISHED = ['T.csv', '_adflow/T.csv.json']

  describe('what it makes', () => {
    it('files by partition, and a manifest; nothing leaves the folder', async () => {
      const loader = await opened({ partition: { odd: 'id % 2', name: "'../../' || name" }, verify: 'content' })
      await bench.write(loader, { rows: ROWS })
      expect(await found()).toEqual({
        names: [
          '_adflow/T.csv.json',
          'odd=0/name=..%2F..%2Fname 0/T.csv',
          'odd=0/name=..%2F..%2Fname 2/T.csv',
          'odd=1/name=..%2F..%2Fname 1/T.csv',
          'odd=1/name=..%2F..%2Fname 3/T.csv',
        ],
        rows: 4,
        ids: 4,
      })
    })

    it('a folder below others, when it is told to, and none when it is told not to', async () => {
      const path = `${place.path}/a/b`
      expect(await failing(opened({ path, create: 'never' }))).toMatchObject({
        code: 'STORE_MISMATCH',
        hint: expect.stringContaining('create: missing'),
      })
      await bench.write(await opened({ path }), { rows: ROWS })
      expect(await found(endpoint, path)).toEqual({ names: PUBLISHED, rows: 4, ids: 4 })
    })

    it('nothing behind a link that leads out of the folder', async () => {
      const outside = join(folder, 'outside')
      mkdirSync(outside)
      symlinkSync(outside, join(place.path, 'part=1'))
      const loader = await opened({ partition: { part: '1' } })
      expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('leads elsewhere'),
      })
      expect(readdirSync(outside)).toEqual([])
    })
  })

  describe('a file that was sent in part', () => {
    /** Bytes that the loaders of this process send as data from here on. */
    const counting = async () => {
      const client = await sftpClient(endpoint)
      const requests = Object.getPrototypeOf((client as unknown as { readonly sftp: object }).sftp)
      await client.end()
      const write = vi.spyOn(requests, 'write')
      return () => write.mock.calls.reduce((total, call) => total + Number(call[3]), 0)
    }
    /** Returns how many bytes were there when the connection was cut. */
    const cut = async () => {
      await using proxy = await proxyFor(toxiproxy, new URL(endpoint.url).host)
      const knownHosts = join(folder, 'known_hosts')
      writeFileSync(knownHosts, readFileSync(endpoint.knownHosts, 'utf8').replace(/:\d+/, `:${proxy.port}`))
      const loader = await opened({ ...loginOf(endpoint, `127.0.0.1:${proxy.port}`), known_hosts: knownHosts }, LARGE)
      await proxy.add({ type: 'bandwidth', kilobytesPerSecond: 4000 }, 'upstream')
      const first = failing(bench.write(loader, { rows: LARGE }))
      const there = await vi.waitUntil(
        () =>
          parts()
            // The state is renamed meanwhile.
            .map((part) => statSync(part, { throwIfNoEntry: false })?.size ?? 0)
            .find((size) => size > 1_000_000),
        {
          interval: 5,
          timeout: 60_000,
        },
      )
      await proxy.down()
      expect(await first).toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true })
      return there
    }
    const parts = () =>
      readdirSync(join(place.path, '_adflow', 'tmp')).map((name) => join(place.path, '_adflow', 'tmp', name))

    it('is compared, and the rest is sent', async () => {
      const there = await cut()
      const sent = await counting()
      expect(await bench.write(await opened({}, LARGE), { rows: LARGE })).toMatchObject({ repeated: false })
      const { names, rows, ids } = await found()
      expect({ names, rows, ids }).toEqual({ names: PUBLISHED, rows: 57_000, ids: 57_000 })
      const whole = readFileSync(
        join(place.path, readdirSync(place.path).find((name) => name.endsWith('.csv')) ?? ''),
      ).length
      expect(sent()).toBeLessThan(whole - there + 10_000)
    })

    it.for([
      ['has other bytes', (part: string) => writeFileSync(part, 'x'.repeat(1000))],
      [
        'has a hole',
        (part: string) =>
          writeFileSync(part, Buffer.concat([readFileSync(part).subarray(0, 1000), Buffer.alloc(9000)])),
      ],
      ['is longer', (part: string) => truncateSync(part, 9_000_000)],
      ['is empty', (part: string) => truncateSync(part, 0)],
    ] as const)('is sent anew where it %s', async ([, change]) => {
      await cut()
      for (const part of parts()) change(part)
      expect(await bench.write(await opened({}, LARGE), { rows: LARGE })).toMatchObject({ repeated: false })
      expect(await found()).toEqual({ names: PUBLISHED, rows: 57_000, ids: 57_000 })
    })
  })

  it('eight writers of one batch: one publishes it, the others find it', async () => {
    const loaders = await Promise.all(Array.from({ length: 8 }, () => opened()))
    const sessions = await Promise.all(loaders.map(() => bench.connect()))
    const receipts = await Promise.all(
      loaders.map((loader, index) => bench.write(loader, { rows: ROWS, session: sessions[index] as never })),
    )
    for (const session of sessions) session.close()
    expect(receipts.filter(({ repeated }) => !repeated)).toHaveLength(1)
    expect(await found()).toEqual({ names: PUBLISHED, rows: 4, ids: 4 })
  })

  describe('a connection that is cut', () => {
    it('wherever the server is in its answer: the next attempt finds what is there, once', async () => {
      await using proxy = await proxyFor(toxiproxy, new URL(endpoint.url).host)
      const knownHosts = join(folder, 'known_hosts')
      writeFileSync(knownHosts, readFileSync(endpoint.knownHosts, 'utf8').replace(/:\d+/, `:${proxy.port}`))
      const loader = await opened({ ...loginOf(endpoint, `127.0.0.1:${proxy.port}`), known_hosts: knownHosts })
      const answers: string[] = []
      // In large steps up to the first answer that comes whole, and in small ones before it, where the batch is there already.
      const coarse = Array.from({ length: 14 }, (_, index) => 200 * (index + 1))
      const ways = coarse.map((bytes) => ({ bytes, step: 200 }))
      for (const { bytes, step } of ways) {
        if (step === 200 && answers.includes('whole')) continue
        const spec = { at: bytes, rows: ROWS, lane: 'cut' }
        const fate = await cutAnswer({ bench, loader, proxy }, bytes, spec, 4)
        answers.push(fate)
        if (fate === 'whole' && step === 200)
          for (let less = 20; less < 200; less += 20) ways.push({ bytes: bytes - less, step: 20 })
      }
      expect([...new Set(answers)].sort()).toEqual(['landed', 'lost', 'whole'])
      const { ids, names, rows } = await found()
      expect({ rows, ids }).toEqual({ rows: 4 * answers.length, ids: 4 })
      expect(names.filter((name) => name === 'T.csv')).toHaveLength(answers.length)
    }, 120_000)

    it('by kill -9 of the server in the middle of a file: nothing is there, then all of it', async () => {
      await using own = await startPrivate('sftp')
      const path = new URL(own.endpoint.url).pathname
      await using proxy = await proxyFor(toxiproxy, new URL(own.endpoint.url).host)
      const knownHosts = join(folder, 'known_hosts')
      writeFileSync(knownHosts, readFileSync(own.endpoint.knownHosts, 'utf8').replace(/:\d+/, `:${proxy.port}`))
      const options = { ...loginOf(own.endpoint, `127.0.0.1:${proxy.port}`), known_hosts: knownHosts, path }
      const loader = await opened(options, LARGE)
      await proxy.add({ type: 'bandwidth', kilobytesPerSecond: 4000 }, 'upstream')
      const first = failing(bench.write(loader, { rows: LARGE }))
      await vi.waitUntil(() => readdirSync(join(path, '_adflow', 'tmp')).some((name) => !name.startsWith('state')), {
        interval: 5,
        timeout: 60_000,
      })
      await own.kill9()
      expect(await first).toMatchObject({ code: 'STORE_UNAVAILABLE', retryable: true })
      await own.restart()
      expect((await found(own.endpoint, path)).names).toContain('_adflow/T.csv.json')
      expect(readdirSync(path)).toEqual(['_adflow'])
      expect(await bench.write(loader, { rows: LARGE })).toMatchObject({ rows: 57_000, repeated: false })
      expect(await found(own.endpoint, path)).toMatchObject({ rows: 57_000, ids: 57_000 })
    }, 120_000)

    it('by a server that stands still: the write ends, and succeeds when the server goes on', async () => {
      await using own = await startPrivate('sftp')
      const path = new URL(own.endpoint.url).pathname
      const loader = await opened({ ...loginOf(own.endpoint), path, timeout: '300ms' })
      own.stop()
      expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringContaining('no answer within 0.3 s'),
      })
      own.cont()
      expect(await bench.write(loader, { rows: ROWS })).toMatchObject({ rows: 4 })
    }, 120_000)
  })

  describe('says what is wrong, once and clearly', () => {
    const keyOf = (file: string, passphrase = '') => {
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', passphrase, '-f', file])
      return file
    }
    const denied = (message: string) => ({ code: 'STORE_DENIED', exit: 77, message: expect.stringContaining(message) })

    it('of a wrong password and of a key that the server does not know', async () => {
      const wrong = 'a wrong one'
      const error = await failing(opened({ private_key: undefined, password: wrong }))
      expect(error).toMatchObject(denied('authentication'))
      expect(String(error)).not.toContain(wrong)
      expect(await failing(opened({ private_key: keyOf(join(folder, 'key')) }))).toMatchObject(denied('authentication'))
    })

    it('of a key that is encrypted, and takes it with its passphrase', async () => {
      const key = keyOf(join(folder, 'key'), 'open sesame')
      expect(await failing(opened({ private_key: key }))).toMatchObject({
        code: 'STORE_DENIED',
        hint: expect.stringContaining('passphrase'),
      })
      expect(await failing(opened({ private_key: key, passphrase: 'no' }))).toMatchObject({
        code: 'STORE_DENIED',
        hint: expect.stringContaining('passphrase'),
      })
      expect(await failing(opened({ private_key: key, passphrase: 'open sesame' }))).toMatchObject(
        denied('authentication'),
      )
    })

    it('of a wrong password, where the right one lets the user in', async () => {
      // OpenSSH asks for passwords of users of the machine, which a test does not make.
      const letIn: string[] = []
      const { private: hostKey } = ssh2.utils.generateKeyPairSync('ed25519')
      const server = new ssh2.Server({ hostKeys: [hostKey] }, (connection) => {
        connection.on('authentication', (login) => {
          if (login.method !== 'password' || login.password !== 'the right one') return login.reject(['password'])
          letIn.push(login.username)
          login.accept()
        })
        connection.on('error', () => undefined)
      })
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
      const key = ssh2.utils.parseKey(hostKey) as ssh2.ParsedKey
      const options = {
        url: `sftp://partner@127.0.0.1:${(server.address() as AddressInfo).port}`,
        private_key: undefined,
        known_hosts: undefined,
        host_key: `SHA256:${createHash('sha256').update(key.getPublicSSH()).digest('base64').replace('=', '')}`,
        connect_timeout: '1s',
      }
      expect(await failing(opened({ ...options, password: 'another' }))).toMatchObject(denied('authentication'))
      expect(letIn).toEqual([])
      // There is no SFTP behind this login.
      expect(await failing(opened({ ...options, password: 'the right one' }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
      })
      expect(letIn).toEqual(['partner'])
      server.close()
    })

    it('of a key that cannot be read', async () => {
      expect(await failing(opened({ private_key: 'none' }))).toMatchObject({ code: 'SECRET_UNREADABLE' })
    })

    it('of a server that nobody knows, of one whose key was changed, and of one that is revoked', async () => {
      const known = join(folder, 'known_hosts')
      expect(await failing(opened({ known_hosts: known }))).toMatchObject(denied('has no key of 127.0.0.1'))
      const real = readFileSync(endpoint.knownHosts, 'utf8')
      const other = readFileSync(`${keyOf(join(folder, 'other'))}.pub`, 'utf8')
        .split(' ')
        .slice(0, 2)
        .join(' ')
      const name = real.split(' ')[0]
      writeFileSync(known, `${name} ${other}\n`)
      expect(await failing(opened({ known_hosts: known }))).toMatchObject(denied('may not be the server'))
      writeFileSync(known, `@revoked ${real}`)
      expect(await failing(opened({ known_hosts: known }))).toMatchObject(denied('has revoked'))
    })

    it('of a fingerprint that is not its, and takes the right one', async () => {
      const host_key = `SHA256:${createHash('sha256')
        .update(Buffer.from(readFileSync(endpoint.knownHosts, 'utf8').trim().split(' ')[2] ?? '', 'base64'))
        .digest('base64')
        .replace('=', '')}`
      const own = { known_hosts: undefined }
      expect(
        await failing(opened({ ...own, host_key: host_key.replace(/.$/, 'A').replace(/:./, ':B') })),
      ).toMatchObject(denied('may not be the server'))
      expect(await bench.write(await opened({ ...own, host_key }), { rows: ROWS })).toMatchObject({ rows: 4 })
    })

    it('of a server that changes nothing for this user', async () => {
      await using own = await startPrivate('sftp', { readOnly: true })
      const path = `${new URL(own.endpoint.url).pathname}/ads`
      expect(await failing(opened({ ...loginOf(own.endpoint), path }))).toMatchObject({
        code: 'STORE_DENIED',
        hint: expect.stringContaining('right to write'),
      })
    }, 120_000)

    it('of a full disk on the server, and takes the batch when there is room again; of one that is read-only', async () => {
      await using own = await startPrivate('sftp', { diskSize: '5m' })
      const path = new URL(own.endpoint.url).pathname
      writeFileSync(join(path, 'filler'), Buffer.alloc(3_000_000))
      const loader = await opened({ ...loginOf(own.endpoint), path }, LARGE)
      expect(await failing(bench.write(loader, { rows: LARGE }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        retryable: true,
        message: expect.stringContaining('no space left'),
      })
      rmSync(join(path, 'filler'))
      expect(await bench.write(loader, { rows: LARGE })).toMatchObject({ rows: 57_000, repeated: false })
      expect(await found(own.endpoint, path)).toMatchObject({ rows: 57_000, ids: 57_000 })
      execFileSync('mount', ['-o', 'remount,ro', path])
      expect(await failing(bench.write(loader, { at: 1, rows: ROWS }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        message: expect.stringContaining('read-only'),
      })
    }, 120_000)

    it('of a file that is gone or was changed', async () => {
      const loader = await opened()
      await bench.write(loader, { rows: ROWS })
      const file = join(place.path, readdirSync(place.path).find((name) => name.endsWith('.csv')) ?? '')
      writeFileSync(file, 'short')
      expect(await failing(bench.write(loader, { rows: ROWS }))).toMatchObject({
        code: 'STORE_MISMATCH',
        message: expect.stringContaining('has 5 bytes'),
      })
    })

    it('of a server that is not there, and of one that says nothing', async () => {
      expect(await failing(opened({ url: 'sftp://nobody@127.0.0.1:1' }))).toMatchObject({
        code: 'STORE_UNAVAILABLE',
        retryable: true,
      })
      const silent = createServer(() => undefined)
      await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
      const { port } = silent.address() as { port: number }
      const url = `sftp://nobody@127.0.0.1:${port}`
      expect(await failing(opened({ url, connect_timeout: '200ms' }))).toMatchObject({ code: 'STORE_UNAVAILABLE' })
      silent.close()
    })
  })

  it.for([
    [{ url: 'sftp://user:secret@host' }, 'without a password'],
    [{ path: 'a/../b' }, 'without `.` and `..`'],
    [{ path: '..' }, 'without `.` and `..`'],
    [{ path: 'a/' }, 'without `/` at the end'],
    [{ private_key: undefined }, 'a `password` or a `private_key` is needed'],
    [{ host_key: `SHA256:${'A'.repeat(43)}` }, 'not by both'],
    [{ passphrase: 'x', private_key: undefined, password: 'y' }, '`passphrase` is only for `private_key`'],
  ] as const)('%j is refused', ([options, message]) => {
    const { error } = sftp.options.safeParse({ path: 'a', format: 'csv', ...loginOf(endpoint), ...options })
    expect(error?.issues.map((issue) => issue.message).join()).toContain(message)
  })
})
