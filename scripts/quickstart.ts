/** `npm run quickstart`: makes realistic ad traffic, runs the main job on it, and compares every figure with the truth. */
import { spawnSync } from 'node:child_process'
import { readFileSync, rmSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Truth } from '../src/sample/truth.ts'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const folder = process.env['ADFLOW_QUICKSTART'] ?? join(root, 'quickstart')
const rows = process.env['ADFLOW_QUICKSTART_ROWS'] ?? '1000000'
const RULE_OF_CLASS: Readonly<Record<string, string>> = { wrong_type: 'type', missing_field: 'required' }

function adflow(args: readonly string[], show: boolean): string {
  const shown = args.map((arg) => (/[\s"]/.test(arg) ? `'${arg}'` : arg)).join(' ')
  process.stdout.write(`\n\u001b[1m$ adflow ${shown}\u001b[0m\n`)
  const env = { ...process.env, ADFLOW_QUICKSTART: folder, ADFLOW_STATE_DIR: join(folder, 'state') }
  const done = spawnSync(process.execPath, [join(root, 'bin', 'run.js'), ...args], {
    env,
    encoding: 'utf8',
    stdio: ['inherit', show ? 'inherit' : 'pipe', 'inherit'],
    maxBuffer: 1 << 28,
  })
  if (done.status !== 0) {
    process.stderr.write(`adflow ${args[0]} ended with ${done.status ?? done.signal}\n${done.stdout ?? ''}\n`)
    process.exit(done.status ?? 1)
  }
  return done.stdout ?? ''
}

rmSync(folder, { recursive: true, force: true })
process.stdout.write(
  `One day of ad traffic, ${Number(rows).toLocaleString('en-US')} records, with a stated number of every defect:\n`,
)
adflow(['sample', '--rows', rows, '--seed', '42', '--out', join(folder, 'data')], true)
adflow(['run', 'jobs/quickstart.yaml'], true)
adflow(
  [
    'query',
    '--job',
    'jobs/quickstart.yaml',
    'select campaign, advertiser, count(*) as events, sum(spend) as spend from events group by all order by spend desc limit 10',
  ],
  true,
)

const truth = JSON.parse(readFileSync(join(folder, 'data', 'truth.json'), 'utf8')) as Truth
const value = (sql: string) =>
  (
    JSON.parse(adflow(['query', '--job', 'jobs/quickstart.yaml', '--json', sql], false)) as {
      rows: Record<string, string>[]
    }
  ).rows
const quarantined = new Map(
  value('select rule, count(*) as n from quarantine group by 1').map((row) => [row['rule'], Number(row['n'])]),
)
const [warehouse] = value(
  'select count(*) as loaded, sum(cost_micros) as spend, count(distinct event_id) as ids from events',
)
const [books] = value(
  'select sum("read") as read, sum(deduplicated) as deduplicated, sum(unaccounted) as unaccounted from batches',
)
const checks: [string, number | string, number | string][] = [
  ['records read', truth.expect.read, Number(books?.['read'])],
  ['loaded', truth.expect.loaded, Number(warehouse?.['loaded'])],
  ['distinct ids', truth.clean, Number(warehouse?.['ids'])],
  ['spend (micros)', truth.spend_micros, String(warehouse?.['spend'])],
  ['deduplicated', truth.expect.deduplicated, Number(books?.['deduplicated'])],
  ...Object.entries(truth.expect.quarantined).map(([name, count]): [string, number, number] => [
    `quarantined: ${name}`,
    count,
    quarantined.get(RULE_OF_CLASS[name] ?? name) ?? 0,
  ]),
  ['unaccounted', 0, Number(books?.['unaccounted'])],
]
process.stdout.write('\nThe truth that the generator states, and what adflow found:\n')
let wrong = 0
for (const [name, expected, found] of checks) {
  const same = expected === found
  if (!same) wrong += 1
  process.stdout.write(
    `  ${same ? '✔' : '✖'} ${name.padEnd(28)} ${String(expected).padStart(14)} ${same ? '=' : '≠'} ${found}\n`,
  )
}
process.stdout.write(
  wrong === 0
    ? `\nEvery record is accounted for. Look around:\n  npx adflow status jobs/quickstart.yaml --state-dir quickstart/state\n  npx adflow query --job jobs/quickstart.yaml --state-dir quickstart/state "select rule, reason, raw from quarantine limit 5"\n`
    : `\n${wrong} figures differ from the truth\n`,
)
process.exit(wrong === 0 ? 0 : 1)
