/** What the documents show must be true: commands, flags, job files, links, the state diagram, exit codes. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, normalize } from 'node:path'
import pino from 'pino'
import { afterAll, describe, expect, it } from 'vitest'
import { EXIT } from '../src/core/errors.ts'
import { loadJob } from '../src/core/job/load.ts'
import { loadRegistry } from '../src/core/registry.ts'
import { runJobTests } from '../src/runtime/job-tests.ts'
import { lintJobs } from '../src/runtime/lint.ts'
import { statesMermaid } from '../src/runtime/states.ts'
import { anchorsOf, blocksOf, commandsOf, documents, linksOf } from './harness/documents.ts'
import { exists, textOf } from './harness/repository.ts'

interface Flag {
  readonly type: 'boolean' | 'option'
  readonly char?: string
  readonly options?: readonly string[]
}

interface Command {
  readonly args: Readonly<Record<string, { readonly required?: boolean; readonly multiple?: boolean }>>
  readonly flags: Readonly<Record<string, Flag>>
  readonly strict: boolean
}

const MANIFEST = 'oclif.manifest.json'
if (!exists(MANIFEST)) throw new Error(`${MANIFEST} is missing: run \`npm run build\``)
const { commands } = JSON.parse(textOf(MANIFEST)) as { commands: Readonly<Record<string, Command>> }
const { scripts } = JSON.parse(textOf('package.json')) as { scripts: Readonly<Record<string, string>> }
const blocks = documents().flatMap(blocksOf)
const folder = mkdtempSync(join(tmpdir(), 'adflow-docs-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

describe('commands in the documents', () => {
  const shown = blocks
    .filter(({ language }) => language === 'sh')
    .flatMap(({ at, text }) => commandsOf(text).map((words) => ({ at, words })))

  it('are found at all', () => {
    expect(shown.filter(({ words }) => isOurs(words)).length).toBeGreaterThan(20)
  })

  it('of adflow exist, with their arguments and flags', () => {
    const wrong = shown.flatMap(({ at, words }) => {
      const rest = words[0] === 'npx' ? words.slice(1) : words
      const mistake = rest[0] === 'adflow' ? mistakeIn(rest.slice(1)) : undefined
      return mistake === undefined ? [] : [`${at}: ${words.join(' ')}: ${mistake}`]
    })
    expect(wrong).toEqual([])
  })

  it('of npm run scripts that exist', () => {
    const wrong = shown.filter(({ words: [npm, verb, name = ''] }) => {
      if (npm !== 'npm') return false
      if (verb === 'run') return scripts[name] === undefined
      return verb !== 'ci' && (verb === undefined || scripts[verb] === undefined)
    })
    expect(wrong).toEqual([])
  })

  it('of the bench ask questions that exist', () => {
    const questions = shown.flatMap(({ words }) => {
      const [npm, run, bench, dashes, question] = words
      return [npm, run, bench, dashes].join(' ') === 'npm run bench --' ? [question] : []
    })
    expect(questions).toContain('files')
    for (const question of questions) expect(exists(`bench/${question}.ts`), question).toBe(true)
  })

  it('of README begin with the two that a newcomer types', () => {
    const first = blocksOf('README.md').filter(({ language }) => language === 'sh')
    expect(first[0]?.text).toBe('npm ci && npm run quickstart')
    expect(first[1]?.text).toBe('npm ci && npm test')
  })
})

describe('job files in the documents', () => {
  const jobs = blocks.filter(({ language, text }) => language === 'yaml' && /^(?:#.*\n)*version: 1$/m.test(text))

  it.each(jobs.map(({ at, text }) => [at, text] as const))(
    '%s has no mistake and passes its tests',
    async (_, text) => {
      const file = join(folder, 'job.yaml')
      writeFileSync(file, text)
      const registry = await loadRegistry()
      const env = { ADFLOW_MASK_KEY: 'a key for this test', PUSH_TOKEN_WEB: 'a token of thirty-two characters' }
      const log = pino({ level: 'silent' })
      const { files } = await lintJobs([file], { registry, log, env, rate: 1000 })
      expect(files[0]).toMatchObject({ problems: [], warnings: [] })
      const job = await loadJob(file, { registry, env })
      for await (const { ok, problems } of runJobTests({ job, registry, log }))
        expect({ ok, problems }).toEqual({ ok: true, problems: [] })
    },
  )

  it('are explained key by key', () => {
    const page = textOf('docs/job-file.md')
    const missing = sectionKeys().filter((key) => !new RegExp(`\\b${key}\\b`).test(page))
    expect(missing).toEqual([])
  })
})

describe('the documents', () => {
  it('link to files and headings that exist', () => {
    const broken = documents().flatMap((path) =>
      linksOf(path)
        .filter((target) => !/^https?:/.test(target))
        .filter((target) => {
          const [file = '', anchor] = target.split('#')
          const found = file === '' ? path : normalize(join(dirname(path), file))
          return !exists(found) || (anchor !== undefined && !anchorsOf(found).has(anchor))
        })
        .map((target) => `${path}: ${target}`),
    )
    expect(broken).toEqual([])
  })

  it('show the state machine as it is in the code', () => {
    const diagrams = blocksOf('docs/architecture.md').filter(({ text }) => text.startsWith('stateDiagram'))
    expect(diagrams.map(({ text }) => `${text}\n`)).toEqual([statesMermaid()])
  })

  it('list every exit code in README', () => {
    const listed = [...textOf('README.md').matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code))
    expect(listed.sort((a, b) => a - b)).toEqual([...Object.values(EXIT)].sort((a, b) => a - b))
  })

  it('list every command in README', () => {
    const readme = textOf('README.md')
    const names = Object.keys(commands).map((id) => `\`adflow ${id.replaceAll(':', ' ')}`)
    expect(names.filter((name) => !readme.includes(name))).toEqual([])
  })

  it('have decisions with consecutive numbers, each with what was not chosen', () => {
    const decisions = documents().filter((path) => path.startsWith('docs/decisions/'))
    const numbers = decisions.map((path) => Number(path.slice('docs/decisions/'.length).slice(0, 3)))
    expect(numbers).toEqual(numbers.map((_, index) => index + 1))
    for (const path of decisions)
      for (const heading of ['## Decision', '## Alternatives', '## Consequences'])
        expect(textOf(path), path).toContain(`\n${heading}\n`)
  })
})

function isOurs(words: readonly string[]): boolean {
  return words[0] === 'adflow' || (words[0] === 'npx' && words[1] === 'adflow')
}

/** What oclif would refuse; undefined where it would not. */
function mistakeIn(words: readonly string[]): string | undefined {
  if (words.length === 0 || words[0] === '--help' || words[0] === '--version') return undefined
  const two = words.slice(0, 2).join(':')
  const id = commands[two] === undefined ? (words[0] ?? '') : two
  const command = commands[id]
  if (command === undefined) return `there is no command ${id}`
  const rest = words.slice(id.split(':').length)
  const positional: string[] = []
  for (let index = 0; index < rest.length; index += 1) {
    const word = rest[index] ?? ''
    if (!word.startsWith('-') || word === '-') {
      positional.push(word)
      continue
    }
    const [name = '', inline] = word.replace(/^--?/, '').split('=')
    if (name === 'help') continue
    const flag = word.startsWith('--')
      ? command.flags[name]
      : Object.values(command.flags).find(({ char }) => char === name)
    if (flag === undefined) return `${id} has no flag ${word}`
    if (flag.type === 'boolean') continue
    const value = inline ?? rest[++index]
    if (value === undefined) return `${word} needs a value`
    if (flag.options !== undefined && !flag.options.includes(value))
      return `${word} is one of ${flag.options.join(', ')}`
  }
  const args = Object.values(command.args)
  const required = args.filter((arg) => arg.required === true).length
  if (positional.length < required) return `${id} needs ${required} arguments`
  const many = !command.strict || args.some((arg) => arg.multiple === true)
  return !many && positional.length > args.length ? `${id} takes ${args.length} arguments` : undefined
}

interface Schema {
  readonly properties?: Readonly<Record<string, Schema>>
}

/** Sections of a job file, and the keys of those that are the same for every job. */
function sectionKeys(): string[] {
  const { properties = {} } = JSON.parse(textOf('schema/job.schema.json')) as Schema
  const fixed = ['contract', 'resources', 'spool', 'retry'].flatMap((name) =>
    Object.keys(properties[name]?.properties ?? {}),
  )
  return [...Object.keys(properties), ...fixed]
}
