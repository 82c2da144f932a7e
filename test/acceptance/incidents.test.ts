/** docs/incidents.md, rehearsed: each symptom is produced for real, and every command of its section is run, in order. */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { adflow } from '../harness/cli.ts'
import { textOf } from '../harness/repository.ts'
import { ndjson, TracedJob } from '../harness/traced-job.ts'

const JOB = `version: 1
name: clicks
extract: { ads: { type: files, path: "data/*.ndjson", settle: 0s } }
contract: { columns: { id: { type: bigint, required: true }, at: timestamp, cost: bigint, city: varchar } }
validate: [ { id: positive, check: "cost >= 0" } ]
transform: [ { derive: { spend: "cost * 2" } } ]
load:
  wh: { type: duckdb, path: wh.duckdb, table: clicks }
  archive: { type: files, format: parquet, path: archive }
retry: { attempts: 1 }
resources: { chunk: 8KB }
tests:
  - name: spend is twice the cost
    given: { ads: [ { id: 1, cost: 2 } ] }
    expect: { wh: [ { id: 1, spend: 4 } ] }
`

interface Symptom {
  readonly yaml?: string
  /** Makes the symptom, on a job that has data and has not run. */
  readonly produce: (job: Rehearsal) => Promise<void>
  /** What people do before the n-th block after the first. */
  readonly between?: readonly ((job: Rehearsal) => Promise<void>)[]
}

class Rehearsal extends TracedJob {
  server: Server | undefined
  /** What the consumer answers. */
  answer = 422

  get cwdEnv() {
    return { cwd: this.folder, env: { ADFLOW_STATE_DIR: this.stateDir, ...this.env } }
  }

  async expectRun(exit: number): Promise<void> {
    const { code, stdout, stderr } = await adflow(['run', 'clicks.yaml'], this.cwdEnv)
    expect(code, `${stdout}\n${stderr}`).toBe(exit)
  }

  async serve(port: number): Promise<void> {
    const server = createServer((request, response) => {
      request.resume().on('end', () => response.writeHead(this.answer).end())
    })
    this.server = server
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  }
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

const loaded = async (job: Rehearsal) => job.expectRun(0)
const changed =
  (...statements: readonly string[]) =>
  async (job: Rehearsal) => {
    await job.expectRun(0)
    await job.change(...statements)
  }
const ledgerFile = (job: Rehearsal) => join(job.state, 'ledger', '000001.ndjson')
const port = await freePort()
const mounts: string[] = []

const SYMPTOMS: Readonly<Record<string, Symptom>> = {
  'Rows are missing': { produce: changed('DELETE FROM clicks WHERE id BETWEEN 100 AND 110') },
  'Rows are doubled': { produce: changed('INSERT INTO clicks SELECT * FROM clicks WHERE id BETWEEN 100 AND 110') },
  'Values are wrong since yesterday': { produce: changed('UPDATE clicks SET spend = spend + 1 WHERE id = 100') },
  'The rules were wrong': {
    yaml: JOB.replace('cost * 2', 'cost * 3').replace('spend: 4', 'spend: 6'),
    produce: async (job) => {
      await job.expectRun(0)
      job.put('clicks.yaml', JOB)
    },
    between: [
      async (job) => {
        await job.change('DELETE FROM clicks')
        rmSync(join(job.folder, 'archive'), { recursive: true })
      },
    ],
  },
  'A store was down': {
    produce: async (job) => {
      job.put('archive', 'a file in the place of the folder')
      await job.expectRun(69)
      rmSync(join(job.folder, 'archive'))
    },
  },
  'The disk is full': {
    produce: async (job) => {
      mkdirSync(job.stateDir)
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', job.stateDir])
      mounts.push(job.stateDir)
    },
    between: [async (job) => void execFileSync('mount', ['-o', 'remount,size=64m', job.stateDir])],
  },
  'A source file was replaced or cut off': {
    produce: async (job) => {
      await job.expectRun(0)
      job.put('data/a.ndjson', ndjson(5001, 5100))
    },
  },
  'The checkpoint is damaged': {
    produce: async (job) => {
      await job.expectRun(0)
      for (const slot of ['a', 'b']) writeFileSync(join(job.state, `checkpoint.${slot}`), 'damaged')
    },
  },
  'The ledger is damaged': {
    produce: async (job) => {
      await job.expectRun(0)
      cpSync(ledgerFile(job), join(job.folder, 'backup'))
      const text = readFileSync(ledgerFile(job), 'utf8')
      writeFileSync(ledgerFile(job), text.replace('"unaccounted":0', '"unaccounted":1'))
    },
    between: [async (job) => cpSync(join(job.folder, 'backup'), ledgerFile(job))],
  },
  'A consumer is dead': {
    yaml: `${JOB}distribute:\n  billing: { type: webhook, url: "http://127.0.0.1:${port}/", secret: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw, where: "id <= 3", allow_private: true }\n`,
    produce: async (job) => job.expectRun(69),
    between: [
      async (job) => job.serve(port),
      async (job) => {
        job.answer = 204
      },
    ],
  },
  'Records are refused': { produce: loaded },
  'Prove yesterday': { produce: loaded },
  'Where does this row come from, and where did this record go': { produce: loaded },
}

/** Of a command, without `adflow`; one kind of quotes may hold the other. */
function wordsOf(line: string): string[] {
  return [...line.matchAll(/"([^"]*)"|'([^']*)'|(\S+)/g)].slice(1).map(([, a, b, c]) => a ?? b ?? c ?? '')
}

let job: Rehearsal | undefined

afterEach(() => {
  for (const path of mounts.splice(0)) execFileSync('umount', ['--lazy', path])
  job?.server?.close()
  job?.server?.closeAllConnections()
  job?.remove()
})

const page = textOf('docs/incidents.md')
const sections = page
  .split(/^## /m)
  .slice(1)
  .map((section) => ({
    title: section.split('\n', 1)[0] ?? '',
    blocks: [...section.matchAll(/^```sh\n([\s\S]*?)^```/gm)],
  }))

describe('docs/incidents.md', () => {
  it('has the symptoms that are rehearsed here, each with commands', () => {
    expect(sections.map(({ title }) => title)).toEqual(Object.keys(SYMPTOMS))
    for (const { title, blocks } of sections)
      expect(blocks.length, title).toBe(1 + (SYMPTOMS[title]?.between?.length ?? 0))
  })

  it.each(sections)(
    '$title',
    async ({ title, blocks }) => {
      const { yaml = JOB, produce, between = [] } = SYMPTOMS[title] as Symptom
      job = new Rehearsal(yaml)
      job.put('data/a.ndjson', ndjson(1, 300))
      await produce(job)
      for (const [index, [, block = '']] of blocks.entries()) {
        if (index > 0) await between[index - 1]?.(job)
        for (const line of block.trimEnd().split('\n')) {
          const [, exit = '0'] = /# exit (\d+)$/.exec(line) ?? []
          const words = wordsOf(line.replace(/ # exit \d+$/, ''))
          const args = words.map((word) => (word === 'JOB' ? 'clicks.yaml' : word))
          const { code, stdout, stderr } = await adflow(args, job.cwdEnv)
          expect(code, `${line}\n${stdout}\n${stderr}`).toBe(Number(exit))
          expect(stdout + stderr, line).not.toBe('')
        }
      }
      if (title === 'Prove yesterday') expect(readFileSync(join(job.folder, 'proof.html'), 'utf8')).toContain('Proven')
      if (title === 'The checkpoint is damaged')
        expect(readdirSync(job.state).filter((name) => name.includes('.aside.')).length).toBe(2)
      expect(existsSync(job.folder)).toBe(true)
    },
    120_000,
  )
})
