#!/usr/bin/env node
import { tooOld } from './node-version.js'

const message = tooOld(process.version)
if (message !== undefined) {
  process.stderr.write(`${message}\n`)
  process.exit(78)
}
const { execute } = await import('@oclif/core')
await execute({ dir: import.meta.url })
