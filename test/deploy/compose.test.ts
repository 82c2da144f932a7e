/** Structure alone: no container runs here. */
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { textOf } from '../harness/repository.ts'
import { CATALOG, SERVER_NAMES, type ServerName } from '../harness/servers/catalog.ts'

interface Service {
  readonly image?: string
  readonly build?: { readonly dockerfile_inline: string }
  readonly ports?: readonly string[]
  readonly network_mode?: string
  readonly healthcheck?: { readonly test: readonly string[]; readonly interval: string }
  readonly configs?: readonly { readonly source: string }[]
  readonly profiles?: readonly string[]
}

const compose = parse(textOf('deploy/compose.yaml'), { merge: true }) as {
  readonly services: Readonly<Record<string, Service>>
  readonly configs: Readonly<Record<string, unknown>>
  readonly 'x-environment': Readonly<Record<string, string>>
}
const environment = compose['x-environment']
const services = SERVER_NAMES.map((name) => [name, compose.services[name] ?? {}] as const)

describe('deploy/compose.yaml', () => {
  it('offers the servers of the harness, and no others', () => {
    expect(Object.keys(compose.services).sort()).toEqual([...SERVER_NAMES].sort())
  })

  it.each(services)('pins the image of %s', (_name, { image, build }) => {
    const pinned = image ?? /^FROM (\S+)/.exec(build?.dockerfile_inline ?? '')?.[1]
    expect(pinned).toMatch(/^[a-z0-9./-]+:(?:v|RELEASE\.)?\d+[-.]\d+/)
  })

  it.each(['kafka', 's3', 'opensearch', 'toxiproxy'] as const)('has the version of %s that the harness has', (name) => {
    const version = compose.services[name]?.image?.split(':')[1]?.replace(/^v/, '') ?? ''
    expect(version).not.toBe('')
    expect(CATALOG[name].summary).toContain(version)
  })

  it.each(services)('lets nobody but this machine reach %s', (_name, { ports = [], network_mode: network }) => {
    expect(ports.filter((port) => !port.startsWith('127.0.0.1:'))).toEqual([])
    expect(ports.length > 0 || network === 'host').toBe(true)
  })

  it.each(services)('names the address of %s, at a port that it publishes', (name, { ports = [] }) => {
    const [variable = ''] = Object.values<string>(CATALOG[name].variables)
    const told = [...(environment[variable] ?? '').matchAll(/127\.0\.0\.1:(\d+)/g)].map((match) => Number(match[1]))
    expect(told.length).toBeGreaterThan(0)
    if (ports.length > 0) expect(told.filter((port) => !ports.some((range) => publishes(range, port)))).toEqual([])
  })

  it('sets no variable that the harness does not read', () => {
    const known = SERVER_NAMES.flatMap((name: ServerName) => Object.values<string>(CATALOG[name].variables))
    expect(Object.keys(environment).filter((variable) => !known.includes(variable))).toEqual([])
  })

  it('uses only configurations that it holds', () => {
    const used = services.flatMap(([, { configs = [] }]) => configs.map(({ source }) => source))
    expect(used.sort()).toEqual(Object.keys(compose.configs).sort())
  })

  it('starts what takes long to fetch only under the profile for it', () => {
    expect(services.filter(([, { profiles }]) => profiles !== undefined).map(([name]) => name)).toEqual(['minio'])
  })
})

/** `127.0.0.1:17000-17005:…` publishes 17003. */
function publishes(range: string, port: number): boolean {
  const [first = 0, last = first] = (range.split(':')[1] ?? '').split('-').map(Number)
  return port >= first && port <= last
}
