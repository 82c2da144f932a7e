/** The house rules of docs/architecture.md, executed. */
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { describe, expect, it } from 'vitest'
import { filesUnder, importsOf, ROOT, textOf } from './harness/repository.ts'

/** Folder of src → the folders that it may import from. What is not listed is not allowed. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  core: [],
  records: ['core'],
  engine: ['core', 'records'],
  lineage: ['core'],
  clients: ['core', 'records', 'engine'],
  extractors: ['core', 'records', 'engine', 'clients'],
  transforms: ['core', 'records', 'engine', 'clients'],
  loaders: ['core', 'records', 'engine', 'clients'],
  consumers: ['core', 'records', 'engine', 'clients'],
  transports: ['core', 'clients'],
  // No component: the registry finds them by file name.
  runtime: ['core', 'records', 'engine', 'lineage', 'clients'],
  reconcile: ['core', 'engine', 'lineage', 'clients', 'runtime'],
  distribute: ['core', 'engine', 'lineage', 'runtime'],
  trace: ['core', 'engine', 'lineage', 'clients', 'runtime'],
  gateway: ['core', 'records', 'clients', 'runtime'],
  daemon: ['core', 'runtime', 'gateway'],
  cli: ['core', 'runtime', 'distribute', 'trace', 'reconcile', 'daemon'],
  sample: ['core', 'engine', 'cli'],
  init: ['core', 'records', 'engine', 'clients', 'sample'],
  commands: ['core', 'runtime', 'distribute', 'trace', 'reconcile', 'gateway', 'daemon', 'cli', 'sample', 'init'],
}

const COMPONENTS = {
  extractors: 'extractor',
  transforms: 'step',
  loaders: 'loader',
  consumers: 'consumer',
  transports: 'transport',
} as const
const LONGEST_FILE = 400
const MOST_DEPENDENCIES = 15

/**
 * Clients of stores, whose protocols are not ours to write: not counted, and imported only when a job names the store. See
 * docs/decisions/009-real-servers.md.
 */
const STORE_CLIENTS: readonly string[] = [
  '@aws-sdk/client-s3',
  '@clickhouse/client',
  '@elastic/elasticsearch',
  '@grpc/grpc-js',
  '@opensearch-project/opensearch',
  '@platformatic/kafka',
  'ioredis',
  'kafkajs',
  'pg',
  'pg-copy-streams',
  'protobufjs',
  'ssh2-sftp-client',
]

/** Debts, each with its ceiling: they may shrink, not grow, and no file may join them. */
const TOO_LONG: Readonly<Record<string, number>> = {}
const CYCLES: readonly string[] = ['src/engine/admit.ts → src/engine/exact-decimals.ts']

const sources = filesUnder('src').filter((path) => path.endsWith('.ts'))
const folderOf = (path: string) => path.split('/')[1] ?? ''

describe('imports', () => {
  it('go one way between the folders of src', () => {
    const wrong = sources.flatMap((path) =>
      importsOf(path, { types: true })
        .filter((target) => folderOf(target) !== folderOf(path))
        .filter((target) => MAY_IMPORT[folderOf(path)]?.includes(folderOf(target)) !== true)
        .map((target) => `${path} imports ${target}`),
    )
    expect(wrong).toEqual([])
  })

  it('of a component never name a sibling', () => {
    const wrong = sources
      .filter((path) => folderOf(path) in COMPONENTS)
      .flatMap((path) =>
        importsOf(path, { types: true })
          .filter((target) => folderOf(target) in COMPONENTS)
          .map((target) => `${path} imports ${target}`),
      )
    expect(wrong).toEqual([])
  })

  it('make no cycle between files at run time', () => {
    expect(cycles()).toEqual(CYCLES)
  })

  it('leave src only for packages', () => {
    const wrong = sources.flatMap((path) =>
      importsOf(path, { types: true })
        .filter((target) => !target.startsWith('src/'))
        .map((target) => `${path} imports ${target}`),
    )
    expect(wrong).toEqual([])
  })
})

describe('folders', () => {
  it('are all in the table of imports', () => {
    expect([...new Set(sources.map(folderOf))].sort()).toEqual(Object.keys(MAY_IMPORT).sort())
  })

  it('may import what docs/architecture.md says', () => {
    const rows = [...textOf('docs/architecture.md').matchAll(/^\| `([a-z]+)` \| [^|]+ \| ([a-z, –]+) \|$/gm)]
    const told = rows.map(([, folder = '', list = '']) => [folder, list === '–' ? [] : list.split(', ')])
    expect(Object.fromEntries(told)).toEqual(MAY_IMPORT)
  })

  it.each(Object.entries(COMPONENTS))('%s holds nothing but files that define a %s', async (folder, kind) => {
    for (const path of filesUnder(`src/${folder}`)) {
      expect(path).toMatch(/^src\/[a-z]+\/[a-z][a-z0-9_-]*\.ts$/)
      const module = (await import(pathToFileURL(join(ROOT, path)).href)) as { default?: { kind?: string } }
      expect(module.default?.kind, path).toBe(kind)
      expect(Object.keys(module), path).toEqual(['default'])
    }
  })

  it('have no barrel: no index.ts, but for a command of that name', () => {
    expect(sources.filter((path) => path.endsWith('/index.ts') && folderOf(path) !== 'commands')).toEqual([])
  })
})

describe('sizes', () => {
  it(`no source file is longer than ${LONGEST_FILE} lines`, () => {
    const long = sources
      .map((path) => ({ path, lines: textOf(path).trimEnd().split('\n').length }))
      .filter(({ path, lines }) => lines > (TOO_LONG[path] ?? LONGEST_FILE))
    expect(long).toEqual([])
  })

  it('a file that is short enough now is off the list of debts', () => {
    const paid = Object.keys(TOO_LONG).filter((path) => textOf(path).trimEnd().split('\n').length <= LONGEST_FILE)
    expect(paid).toEqual([])
  })

  it(`there are at most ${MOST_DEPENDENCIES} runtime dependencies beside the clients of stores, each pinned`, () => {
    const { dependencies } = JSON.parse(textOf('package.json')) as { dependencies: Readonly<Record<string, string>> }
    const counted = Object.keys(dependencies).filter((name) => !STORE_CLIENTS.includes(name))
    expect(counted.length).toBeLessThanOrEqual(MOST_DEPENDENCIES)
    expect(Object.entries(dependencies).filter(([, version]) => !/^\d/.test(version))).toEqual([])
  })

  it('a client of a store is loaded by nobody but the jobs that name the store', () => {
    const wrong = sources.flatMap((path) =>
      [...textOf(path).matchAll(/^(?:import|export)(?! type) (?:[^'";]*?from )?'([^'.][^']*)'/gm)]
        .filter(([, name = '']) => STORE_CLIENTS.some((client) => name === client || name.startsWith(`${client}/`)))
        .map(([, name]) => `${path} imports ${name}`),
    )
    expect(wrong).toEqual([])
  })
})

describe('text', () => {
  it('names no path of the machine on which it was written', () => {
    const machine = new RegExp([['', 'work', ''].join('/'), ['\\.\\.', 'shared'].join('/')].join('|'))
    const wrong = filesUnder()
      .filter((path) => path !== 'package-lock.json')
      .flatMap((path) =>
        textOf(path)
          .split('\n')
          .flatMap((line, index) => (machine.test(line) ? [`${path}:${index + 1}: ${line.trim().slice(0, 100)}`] : [])),
      )
    expect(wrong).toEqual([])
  })

  it('has no marks of unfinished work', () => {
    const unfinished = new RegExp(`\\b(?:${['TO' + 'DO', 'FIX' + 'ME', 'X' + 'XX', 'HA' + 'CK'].join('|')})\\b`)
    const code = filesUnder().filter((path) => /\.(?:ts|js|md|yaml)$/.test(path))
    expect(code.filter((path) => unfinished.test(textOf(path)))).toEqual([])
  })
})

/** One line per cycle, from its alphabetically first file. */
function cycles(): string[] {
  const imports = new Map(sources.map((path) => [path, importsOf(path, { types: false })]))
  const found = new Set<string>()
  const finished = new Set<string>()
  const walk = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path)
    if (at >= 0) {
      const ring = trail.slice(at)
      const first = ring.indexOf([...ring].sort()[0] ?? '')
      found.add([...ring.slice(first), ...ring.slice(0, first)].join(' → '))
      return
    }
    if (finished.has(path)) return
    for (const target of imports.get(path) ?? []) walk(target, [...trail, path])
    finished.add(path)
  }
  for (const path of sources) walk(path, [])
  return [...found].sort()
}
