/**
 * `npm run bench -- <question> [--rows N] [--runs N] [--only CASE]`: runs bench/<question>.ts and prints a line
 * `ratio <question>.<case> <value> vs <peer>` for each case. Without a question it lists them.
 */
import { readdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

export interface BenchOptions {
  readonly rows: number
  /** `rows`, where whoever runs it has said them: otherwise a case may have a size of its own. */
  readonly askedRows?: number
  readonly runs: number
  /** Of the cases of a question, this one alone. */
  readonly only?: string
}

const folder = dirname(fileURLToPath(import.meta.url))
const questions = readdirSync(folder)
  .filter((name) => /^[a-z]+\.ts$/.test(name) && name !== 'run.ts' && name !== 'measure.ts')
  .map((name) => name.replace('.ts', ''))
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { rows: { type: 'string' }, runs: { type: 'string', default: '5' }, only: { type: 'string' } },
})
const [question] = positionals
if (question === undefined || !questions.includes(question)) {
  process.stderr.write(`npm run bench -- <question>; questions: ${questions.join(', ')}\n`)
  process.exit(2)
}
const { bench, defaultRows } = (await import(`./${question}.ts`)) as {
  bench(options: BenchOptions): Promise<void>
  defaultRows: number
}
const { only, rows } = values
await bench({
  rows: Number(rows ?? defaultRows),
  ...(rows === undefined ? {} : { askedRows: Number(rows) }),
  runs: Number(values.runs),
  ...(only === undefined ? {} : { only }),
})
