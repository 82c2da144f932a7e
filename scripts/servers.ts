/**
 * `npm run servers`: the servers of the tests, for a developer. Prints where they are and how to hand them to the tests and
 * to jobs, and ends them on Ctrl-C.
 */
import { setTimeout as wait } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { table } from '../src/cli/table.ts'
import { CATALOG, isServerName, SERVER_NAMES, type ServerName, USUAL_SERVERS } from '../test/harness/servers/catalog.ts'
import type { Endpoint } from '../test/harness/servers/core/kind.ts'
import { SharedServers } from '../test/harness/servers/core/shared.ts'

const HELP = `Starts real servers on free loopback ports, and stops them on Ctrl-C.

  npm run servers                          all but ${SERVER_NAMES.filter((name) => !USUAL_SERVERS.includes(name)).join(', ')}
  npm run servers -- postgres redis        only these
  npm run --silent servers -- --json s3    one line of JSON instead of a table
  npm run servers -- --install             only puts them on this machine

Servers:
${SERVER_NAMES.map((name) => `  ${name.padEnd(15)} ${CATALOG[name].summary}`).join('\n')}
`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean' }, install: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
})
if (values.help) {
  process.stdout.write(HELP)
  process.exit(0)
}
const unknown = positionals.filter((name) => !isServerName(name))
if (unknown.length > 0) {
  process.stderr.write(`There is no server ${unknown.join(', ')}. Known: ${SERVER_NAMES.join(', ')}\n`)
  process.exit(2)
}
const names = positionals.length > 0 ? positionals.filter(isServerName) : USUAL_SERVERS

if (values.install) {
  const failed = (await Promise.all(names.map(install))).filter((reason) => reason !== undefined)
  process.exit(failed.length === 0 ? 0 : 1)
}

const servers = new SharedServers()
let ending: Promise<void> | undefined
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    if (ending !== undefined) process.exit(1) // twice: at once; the servers go with this process
    process.stderr.write('\nstopping …\n')
    ending = servers.end().then(() => process.exit(0))
  })

const found = await Promise.all(names.map(start))
const running = found.filter((server) => server !== undefined)
process.stdout.write(values.json ? `${JSON.stringify(asJson())}\n` : asText())
if (running.length === 0) process.exit(1)
for (;;) await wait(2 ** 30) // until a signal

async function start(name: ServerName): Promise<{ name: ServerName; endpoint: Endpoint } | undefined> {
  process.stderr.write(`${name} …\n`)
  try {
    return { name, endpoint: await servers.get(name) }
  } catch (error) {
    process.stderr.write(`${name} did not start: ${(error as Error).message}\n`)
    return undefined
  }
}

async function install(name: ServerName): Promise<string | undefined> {
  const started = performance.now()
  try {
    await CATALOG[name].install()
    process.stderr.write(`${name}: installed in ${((performance.now() - started) / 1000).toFixed(1)} s\n`)
    return undefined
  } catch (error) {
    process.stderr.write(`${name} is not installed: ${(error as Error).message}\n`)
    return name
  }
}

/** Variable of the environment → value, of one server. */
function variablesOf(name: ServerName, endpoint: Endpoint): Record<string, string> {
  const fields = Object.entries<string>(CATALOG[name].variables)
  return Object.fromEntries(
    fields.flatMap(([field, variable]) => (endpoint[field] ? [[variable, endpoint[field]]] : [])),
  )
}

function asJson(): Record<string, unknown> {
  const told = running.map(({ name, endpoint }) => [name, { endpoint, env: variablesOf(name, endpoint) }])
  return { schema_version: 1, servers: Object.fromEntries(told) }
}

function asText(): string {
  const rows = running.map(({ name, endpoint }) => {
    const [address = ''] = Object.values(endpoint)
    return [name, CATALOG[name].summary, address.replaceAll(',', ',\n')]
  })
  const addresses = table([{ name: 'server' }, { name: 'what' }, { name: 'address' }], rows)
  const exports = running.flatMap(({ name, endpoint }) => Object.entries(variablesOf(name, endpoint)))
  const lines = exports.map(([variable, value]) => `export ${variable}='${value}'\n`).join('')
  return `${addresses}\n\n${lines}\nCtrl-C stops them.\n`
}
