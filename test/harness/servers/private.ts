/** Servers that one test owns: to kill, to hold still, to fill up. */
import { CATALOG, type EndpointOf, type OptionsOf, type ServerName } from './catalog.ts'
import { type ServerInstance, startInstance } from './core/instance.ts'
import type { PrivateOptions, ServerKind } from './core/kind.ts'

/**
 * Starts a server of the test's own, always on this machine, whatever the environment names. The test ends it:
 * `await using server = await startPrivate('postgres')`, or `server.end()`.
 */
export function startPrivate<N extends ServerName>(
  name: N,
  options: Partial<OptionsOf<N>> & PrivateOptions = {},
): Promise<ServerInstance<EndpointOf<N>>> {
  // The catalog ties both type arguments to the name; TypeScript does not follow an index that far.
  const kind = CATALOG[name] as unknown as ServerKind<EndpointOf<N>, OptionsOf<N>>
  return startInstance(kind, options as OptionsOf<N> & PrivateOptions)
}
