/** Toxiproxy: TCP between a client and a server, cut, slowed or held on demand. */
import { join } from 'node:path'
import { goProgram } from './core/cache.ts'
import { defineServer } from './core/kind.ts'
import { answers } from './core/process.ts'

export interface ToxiproxyEndpoint extends Record<string, string> {
  /** `http://host:port` of its control API. Its proxies listen on the same host. */
  readonly url: string
}

const VERSION = 'v2.5.0'
const program = () => goProgram('toxiproxy', 'github.com/Shopify/toxiproxy/v2/cmd/server', VERSION)

export default defineServer<ToxiproxyEndpoint>({
  name: 'toxiproxy',
  summary: `Toxiproxy ${VERSION}`,
  variables: { url: 'ADFLOW_TEST_TOXIPROXY_URL' },

  async install() {
    await program()
  },

  async start(context) {
    const port = await context.port()
    await context.run({
      command: await program(),
      args: ['-host', '127.0.0.1', '-port', String(port)],
      log: join(context.folder.path, 'log'),
      ready: () => answers(`http://127.0.0.1:${port}/version`),
    })
    return { url: `http://127.0.0.1:${port}` }
  },
})
