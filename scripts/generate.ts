/**
 * Writes what follows from the sources: schema/job.schema.json, docs/components/ and docs/errors.md; and from the engine: its functions, and sums of its hashes.
 * With --check nothing is written; stale files are named and the exit code is 1.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { componentIndex, componentPage } from '../src/core/component-page.ts'
import { errorPage } from '../src/core/error-page.ts'
import { jobJsonSchema } from '../src/core/job/json-schema.ts'
import { COMPONENT_KINDS, loadRegistry } from '../src/core/registry.ts'
import { functionsModule, readFunctions } from '../src/engine/functions.ts'
import { sumsModule } from '../src/engine/row-sums.ts'
import { Engine, type Session } from '../src/engine/session.ts'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const check = process.argv.includes('--check')
const registry = await loadRegistry()
const files = new Map<string, string>([
  ['schema/job.schema.json', `${JSON.stringify(await jobJsonSchema(registry), null, 2)}\n`],
  ['docs/errors.md', errorPage()],
  [
    'src/engine/known-functions.ts',
    await asked(async (session, version) => functionsModule(version, await readFunctions(session))),
  ],
  ['src/engine/known-sums.ts', await asked(sumsModule)],
  ['docs/components/README.md', await componentIndex(registry)],
])
for (const kind of COMPONENT_KINDS)
  for (const type of registry.types(kind))
    files.set(`docs/components/${kind}-${type}.md`, componentPage(kind, type, await registry.get(kind, type)))

const stale = [...files].filter(([file, text]) => read(file) !== text).map(([file]) => file)
const orphans = list('docs/components').filter((file) => !files.has(file))
if (check) {
  for (const file of stale) console.error(`${file} is stale: run \`npm run generate\` and commit it`)
  for (const file of orphans) console.error(`${file} has no component any more: run \`npm run generate\` and commit it`)
  process.exitCode = stale.length + orphans.length > 0 ? 1 : 0
} else {
  for (const file of orphans) rmSync(join(root, file))
  for (const file of stale) {
    mkdirSync(dirname(join(root, file)), { recursive: true })
    writeFileSync(join(root, file), files.get(file) ?? '')
    console.log(`wrote ${file}`)
  }
}

async function asked(ask: (session: Session, version: string) => Promise<string>): Promise<string> {
  const engine = await Engine.open({ memoryBytes: 100_000_000, threads: 1, tempFolder: tmpdir() })
  const session = await engine.connect()
  try {
    return await ask(session, engine.version)
  } finally {
    session.close()
    engine.close()
  }
}

function read(file: string): string | undefined {
  try {
    return readFileSync(join(root, file), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(join(root, folder)).map((name) => `${folder}/${name}`)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}
