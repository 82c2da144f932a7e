/** Suites that need real servers. */
import { describe, inject, it } from 'vitest'
import type { EndpointOf, ServerName } from './catalog.ts'
import { NO_SERVER } from './core/missing.ts'
import { askMain } from './core/shared.ts'

type Endpoints<N extends ServerName> = { readonly [K in N]: EndpointOf<K> }

/**
 * A `describe` that is run against servers, which it starts if they do not run yet. In CI a server that does not start is
 * a failure; elsewhere the suite is skipped, and the reason printed.
 *
 *     await serverSuite('the loader of PostgreSQL', ['postgres'], ({ postgres }) => {
 *       it('…', async () => { await using database = await freshDatabase(postgres) … })
 *     })
 */
export async function serverSuite<N extends ServerName>(
  title: string,
  needs: readonly N[],
  suite: (servers: Endpoints<N>) => void,
): Promise<void> {
  const url = inject('serversUrl')
  const answers = await Promise.all(needs.map(async (name) => [name, await askMain(url, name)] as const))
  const missing = answers.flatMap(([name, answer]) => ('reason' in answer ? [`${name}: ${answer.reason}`] : []))
  if (missing.length === 0) {
    const endpoints = answers.map(([name, answer]) => [name, 'endpoint' in answer ? answer.endpoint : undefined])
    describe(title, () => suite(Object.fromEntries(endpoints) as Endpoints<N>))
    return
  }
  const reason = missing.join('\n')
  if (process.env['CI'] === 'true') throw new Error(`${title}: in CI every server must start\n${reason}`)
  describe(title, () => {
    it('runs against real servers', ({ skip }) => skip(`${NO_SERVER} ${reason}`))
  })
}
