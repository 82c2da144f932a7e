import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import Distribute from '../../src/commands/distribute.ts'
import DlqDiscard from '../../src/commands/dlq/discard.ts'
import DlqList from '../../src/commands/dlq/list.ts'
import DlqReplay from '../../src/commands/dlq/replay.ts'
import DlqShow from '../../src/commands/dlq/show.ts'
import Run from '../../src/commands/run.ts'
import Status from '../../src/commands/status.ts'
import { SECRET, WebhookReceiver } from '../harness/webhook-receiver.ts'
import { type Outcome, runCommand } from './run-command.ts'

const receiver = new WebhookReceiver()
let folder: string
let job: string

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'adflow-dlq-'))
  await receiver.start()
  mkdirSync(join(folder, 'data'))
  writeFileSync(join(folder, 'data', 'a.ndjson'), [1, 2, 3, 4, 5].map((id) => `{"id":${id}}\n`).join(''))
  job = join(folder, 'job.yaml')
  const hook = `{ type: webhook, url: "${receiver.url}", secret: ${SECRET}, allow_private: true }`
  const down = `{ type: webhook, url: "http://127.0.0.1:9/", secret: ${SECRET}, allow_private: true, patience: 1s, optional: true }`
  writeFileSync(
    job,
    `version: 1
name: letters
extract: { ads: { type: files, path: data/* } }
contract: { columns: { id: bigint } }
load: { archive: { type: files, path: archive, format: parquet } }
distribute: { hook: ${hook}, down: ${down} }
`,
  )
})

afterAll(async () => {
  await receiver.stop()
  rmSync(folder, { recursive: true })
})

const stateDir = () => ['--state-dir', join(folder, 'state')]
const json = <T>(outcome: Outcome) => JSON.parse(outcome.stdout) as T

it('shows what a consumer did not take, sends it again, and gives it up', async () => {
  receiver.react = ({ body }) => (/"id":[24]\b/.test(body) ? 422 : 200)
  const run = await runCommand('run', Run, [job, ...stateDir()])
  expect(run.exit).toBe(0)
  expect(run.stdout).toMatch(/hook +3 +2 +0/)
  expect(run.stdout).toContain('dead letters: 2 rows for hook: see `adflow dlq list`')
  expect(run.stdout).toMatch(/owed: 5 rows to down: it has taken nothing for 1 s: .*ECONNREFUSED/)

  const status = await runCommand('status', Status, [job, ...stateDir()])
  expect(status.stdout).toMatch(/waiting for down: 5 rows in 1 batches/)

  const list = await runCommand('dlq:list', DlqList, [job, '--consumer', 'hook', ...stateDir()])
  expect(list.stdout).toMatch(/hook_[0-9a-f]{32}_1 +hook +dead +1 +1 .*answered 422: no/)
  const { letters } = json<{ letters: { id: string }[] }>(
    await runCommand('dlq:list', DlqList, [job, '--matching', 'ANSWERED 422', '--json', ...stateDir()]),
  )
  const [first = '', second = ''] = letters.map(({ id }) => id)

  const show = await runCommand('dlq:show', DlqShow, [job, first, ...stateDir()])
  expect(show.stdout).toContain(`${first}: dead, for hook`)
  expect(show.stdout).toContain('content-type: application/cloudevents+json')
  expect(show.stdout).toContain('"data":{"id":2}')

  expect((await runCommand('dlq:replay', DlqReplay, [job, ...stateDir()])).stderr).toContain('which dead letters?')
  const replay = await runCommand('dlq:replay', DlqReplay, [job, first, ...stateDir()])
  expect(replay.stdout).toContain('hook: 1 dead letters wait for it again')
  receiver.react = () => 200
  const sent = await runCommand('distribute', Distribute, [job, '--only', 'hook', ...stateDir()])
  expect(sent).toMatchObject({ exit: 0, stdout: expect.stringMatching(/hook +1 +0 +0/) })
  expect(receiver.accepted.some(({ id }) => id === first)).toBe(true)

  const discard = await runCommand('dlq:discard', DlqDiscard, [job, second, '--reason', 'a test', ...stateDir()])
  expect(discard.stdout).toContain('hook: 1 dead letters discarded')
  expect((await runCommand('dlq:list', DlqList, [job, ...stateDir()])).stdout).toContain('no dead letters')
  expect(receiver.faults).toEqual([])
})

it.each([
  ['an id that is not there', 'dlq:show', DlqShow, ['hook_0_0'], /no dead letter with the id hook_0_0/],
  ['a consumer that is not there', 'dlq:list', DlqList, ['--consumer', 'hok'], /no consumer hok/],
  ['a consumer that is not there', 'distribute', Distribute, ['--only', 'hok'], /no consumer hok/],
  ['a time that is none', 'distribute', Distribute, ['--timeout', 'soon'], /soon is no duration/],
] as const)('refuses %s (%s)', async (_, id, Class, args, message) => {
  const outcome = await runCommand(id, Class, [job, ...args, ...stateDir()])
  expect(outcome.exit).toBe(2)
  expect(outcome.stderr).toMatch(message)
})

it('says of a job that has not run, and of one without consumers, what to do', async () => {
  const never = await runCommand('distribute', Distribute, [job, '--state-dir', join(folder, 'elsewhere')])
  expect(never).toMatchObject({ exit: 2, stderr: expect.stringContaining('has not run yet') })
  const plain = join(folder, 'plain.yaml')
  writeFileSync(
    plain,
    'version: 1\nname: plain\nextract: { a: { type: files, path: "data/*" } }\ncontract: { columns: { id: bigint } }\nload: { w: { type: files, path: w, format: csv } }\n',
  )
  const none = await runCommand('dlq:list', DlqList, [plain, ...stateDir()])
  expect(none).toMatchObject({ exit: 2, stderr: expect.stringContaining('has no consumers') })
})
