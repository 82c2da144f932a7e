/**
 * Bundles src/ into a fresh dist/ and writes the command manifest, so that starting the CLI imports one command only, and little
 * besides it. Commands and components stay files of their own names, by which they are found; what they share stands in dist/chunks.
 */
import { chmodSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Config } from '@oclif/core'
import asc from 'assemblyscript/asc'
import { type RolldownOutput, rolldown } from 'rolldown'

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const dist = join(root, 'dist')
const FOUND_BY_NAME = ['commands', 'extractors', 'transforms', 'loaders', 'consumers', 'transports']
/** Packages of many modules that nearly every command needs, or whatever speaks HTTP: Node takes longer to find them one by one than to run them. */
const BUNDLED = anyOf(
  '@duckdb/node-api undici zod yaml cockatiel p-limit yocto-queue p-retry is-network-error tinyglobby fdir picomatch fastest-levenshtein croner',
  // oclif, and what it loads whatever the command is.
  '@oclif/core ansi-escapes ansi-regex ansi-styles ansis balanced-match brace-expansion clean-stack color-convert color-name cli-spinners debug ejs emoji-regex',
  'environment escape-string-regexp get-package-type has-flag indent-string is-fullwidth-code-point lilconfig minimatch ms semver string-width',
  'strip-ansi supports-color widest-line wordwrap wrap-ansi get-east-asian-width wsl-utils is-wsl is-docker is-inside-container powershell-utils',
  'pino pino-std-serializers quick-format-unescaped sonic-boom thread-stream safe-stable-stringify on-exit-leak-free process-warning real-require',
  'atomic-sleep @pinojs/redact',
)
const LICENSES = 'third-party-licenses.txt'
const WEB_ASSEMBLY = 'records.wasm'

const entries = [
  'cli/start.ts',
  ...FOUND_BY_NAME.flatMap((folder) => list(join(root, 'src', folder)).map((file) => `${folder}/${file}`)),
]
// A thread finds and compiles its modules by itself, while others wait for it: it has one.
const output = [...(await bundled(entries)), ...(await bundled(['records/count-worker.ts']))]
const packages = new Set<string>()
for (const file of output)
  if (file.type === 'chunk')
    for (const module of file.moduleIds) {
      const [, folder] = /^(.*\/node_modules\/(?:@[^/]+\/)?[^/]+)\//.exec(module) ?? []
      if (folder !== undefined) packages.add(folder)
    }
writeFileSync(join(dist, LICENSES), [...packages].sort().map(licenseOf).join('\n'))
await compile()
const made = new Set([WEB_ASSEMBLY, ...output.map(({ fileName }) => fileName), LICENSES])
// After the new files are there: a program that runs from dist/ at this moment may still import the old ones.
for (const file of list(dist)) if (!made.has(file)) rmSync(join(dist, file))

rmSync(join(root, 'oclif.manifest.json'), { force: true })
const config = await Config.load({ root })
const plugin = config.plugins.get(config.name)
if (plugin === undefined || !('manifest' in plugin)) throw new Error('the CLI does not find itself as a plugin')
writeFileSync(join(root, 'oclif.manifest.json'), `${JSON.stringify(plugin.manifest)}\n`)
chmodSync(join(root, 'bin', 'run.js'), 0o755)

async function bundled(files: readonly string[]): Promise<RolldownOutput['output'][number][]> {
  const bundle = await rolldown({
    input: Object.fromEntries(files.map((file) => [file.replace(/\.ts$/, ''), join(root, 'src', file)])),
    platform: 'node',
    external: (id) => !/^[./]/.test(id) && !BUNDLED.test(id),
  })
  const { output } = await bundle.write({
    dir: dist,
    format: 'esm',
    entryFileNames: '[name].js',
    // One folder deep, like the modules of src/ that look for their neighbours.
    chunkFileNames: 'chunks/[name]-[hash].js',
    sourcemap: true,
  })
  await bundle.close()
  return output
}

/** What stands in wasm/: its memory comes from whoever loads it, and it keeps nothing there by itself. */
async function compile(): Promise<void> {
  const { error, stderr } = await asc.main(
    [
      ...list(join(root, 'wasm'))
        .filter((file) => file.endsWith('.ts'))
        .map((file) => `wasm/${file}`),
      ...['--baseDir', root, '--outFile', join(dist, WEB_ASSEMBLY)],
      ...['--optimizeLevel', '3', '--runtime', 'stub', '--importMemory', '--noAssert'],
      ...['--enable', 'simd', '--enable', 'bulk-memory'],
    ],
    {},
  )
  if (error !== null) throw new Error(`wasm/: ${stderr.toString()}`, { cause: error })
}

/** Matches what is imported from one of these packages. */
function anyOf(...names: readonly string[]): RegExp {
  return new RegExp(`^(?:${names.join(' ').replaceAll(' ', '|')})(?:/|$)`)
}

/** Copies are handed on under the condition that their licences come along. */
function licenseOf(folder: string): string {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as Record<
    string,
    string
  >
  const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry))
  if (file === undefined) throw new Error(`${name} has no licence file`)
  return `${name} ${version} (${license})\n\n${readFileSync(join(folder, file), 'utf8')}\n`
}

function list(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1))
}
