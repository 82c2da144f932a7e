#!/usr/bin/env node
import { tooOld } from './node-version.js'

const message = tooOld(process.version)
if (message !== undefined) {
  process.stderr.write(`${message}\n`)
  process.exit(78)
}
// `adflow … | head`: the reader has seen enough.
process.stdout.on('error', (error) => {
  if (error.code === 'EPIPE') process.exit(process.exitCode ?? 141)
  throw error
})
const { keepCompiled } = await import('./compile-cache.js')
keepCompiled()
const { start } = await import('../dist/cli/start.js')
await start(import.meta.url)
