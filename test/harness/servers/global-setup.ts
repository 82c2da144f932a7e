/** Runs in vitest's main process before the server tests, and after them however they end. */
import type { TestProject } from 'vitest/node'
import { USUAL_SERVERS } from './catalog.ts'
import { SharedServers, serveWorkers } from './core/shared.ts'

declare module 'vitest' {
  interface ProvidedContext {
    serversUrl: string
  }
}

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const servers = new SharedServers()
  const service = await serveWorkers(servers)
  project.provide('serversUrl', service.url)
  // A run of everything needs them all: they are installed and started while the unit tests run.
  if (process.env['ADFLOW_TEST_SERVERS'] === 'all')
    for (const name of USUAL_SERVERS) servers.get(name).catch(() => undefined) // its suite says why
  return async () => {
    service.close()
    await servers.end()
  }
}
