/** Prometheus of Debian. What it holds is made before it starts, from OpenMetrics text, with the times that stand there. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { defineServer } from './core/kind.ts'
import { command, programFromDebian } from './core/machine.ts'
import { answers } from './core/process.ts'

export interface PrometheusEndpoint extends Record<string, string> {
  /** `http://host:port` */
  readonly url: string
}

export interface PrometheusOptions {
  /** OpenMetrics text, which ends with `# EOF`; its times are seconds. */
  readonly metrics?: string
  /** Command line flags, such as `--query.max-samples=1000`. */
  readonly flags?: readonly string[]
}

const PACKAGES = ['prometheus']

export default defineServer<PrometheusEndpoint, PrometheusOptions>({
  name: 'prometheus',
  summary: 'Prometheus of Debian',
  variables: { url: 'ADFLOW_TEST_PROMETHEUS_URL' },

  async install() {
    await programFromDebian('promtool', PACKAGES)
  },

  async start(context, { metrics, flags = [] }) {
    const port = await context.port()
    const data = join(context.disk(), 'tsdb')
    if (metrics !== undefined) {
      const text = join(context.folder.path, 'metrics.txt')
      writeFileSync(text, metrics)
      const promtool = await programFromDebian('promtool', PACKAGES)
      await command(promtool, ['tsdb', 'create-blocks-from', 'openmetrics', '--quiet', text, data])
    }
    const config = context.folder.write(
      'prometheus.yml',
      `global: { scrape_interval: 1s }
scrape_configs: [{ job_name: itself, static_configs: [{ targets: ["127.0.0.1:${port}"] }] }]
`,
    )
    await context.run({
      command: await programFromDebian('prometheus', PACKAGES),
      args: [
        `--config.file=${config}`,
        `--storage.tsdb.path=${data}`,
        '--storage.tsdb.retention.time=100y',
        `--web.listen-address=127.0.0.1:${port}`,
        '--log.level=warn',
        ...flags,
      ],
      log: join(context.folder.path, 'log'),
      ready: () => answers(`http://127.0.0.1:${port}/-/ready`),
    })
    return { url: `http://127.0.0.1:${port}` }
  },
})
