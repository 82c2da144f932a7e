import { tmpdir } from 'node:os'
import prometheus from '../../src/extractors/prometheus.ts'
import { startPrivate } from '../harness/servers/private.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { extractorConformance } from './suites/extractor.ts'
import { SOURCE_ROWS, sourceFaults } from './suites/source-faults.ts'

/** Series that have one sample each at the same point. */
const SERIES = 100
const STEP_SECONDS = 600
/** 2023-11-14T22:10:00Z, a multiple of the step. */
const BEGIN_SECONDS = 1_699_999_800

/** The points from the beginning, so many of them. */
function pointsOf(url: string, points: number): Readonly<Record<string, unknown>> {
  return {
    url: { main: url },
    step: `${STEP_SECONDS}s`,
    start: new Date(BEGIN_SECONDS * 1000).toISOString(),
    lag: `${Math.floor(Date.now() / 1000) - BEGIN_SECONDS - points * STEP_SECONDS}s`,
    allow_private: true,
  }
}

/** Each record is one sample, by its labels: the id, the decimal and the name that no double could hold. */
function rowMetrics(rows: readonly string[]): string {
  const samples = rows.map((row, index) => {
    const { id, micros, name } = (/"id":(?<id>\d+),"micros":(?<micros>[\d.]+),"name":"(?<name>[^"]*)"/.exec(row)
      ?.groups ?? {}) as Record<string, string>
    const at = BEGIN_SECONDS + Math.floor(index / SERIES) * STEP_SECONDS
    return `rows{id="${id}",micros="${micros}",name="${name}"} ${index} ${at}`
  })
  return `# TYPE rows gauge\n${samples.join('\n')}\n# EOF\n`
}

const LANES = { clicks: 40, orders: 25 } as const

function laneMetrics(): string {
  const families = Object.entries(LANES).map(([name, points]) => {
    const samples = Array.from({ length: points }, (_, n) => `${name} ${n}.5 ${BEGIN_SECONDS + n * STEP_SECONDS}`)
    return `# TYPE ${name} gauge\n${samples.join('\n')}\n`
  })
  return `${families.join('')}# EOF\n`
}

function laneRecords(name: string, points: number): string[] {
  return Array.from({ length: points }, (_, n) => {
    const time = new Date((BEGIN_SECONDS + n * STEP_SECONDS) * 1000).toISOString()
    return `{"server":"main","query":"${name}","metric":"${name}","labels":{},"time":"${time}","value":${n}.5}`
  })
}

await serverSuite('the extractor of Prometheus', ['prometheus'], () => {
  extractorConformance('prometheus', prometheus, async () => {
    const server = await startPrivate('prometheus', { metrics: laneMetrics() })
    const options = {
      ...pointsOf(server.endpoint.url, LANES.clicks),
      queries: { clicks: 'clicks', orders: 'orders' },
      max_points: 3,
      retry: { attempts: 1 },
    }
    const lanes = Object.entries(LANES).map(([name, points]) => [`main/${name}`, laneRecords(name, points)] as const)
    return {
      options,
      baseDir: tmpdir(),
      lanes: Object.fromEntries(lanes),
      sources: Object.fromEntries(lanes.map(([lane, records]) => [lane, Buffer.from(`${records.join('\n')}\n`)])),
      chunkBytes: { min: 400, max: 2500 },
      broken: { ...options, queries: { wrong: 'sum(' } },
      close: () => server.end(),
    }
  })

  sourceFaults('prometheus', async () => {
    const server = await startPrivate('prometheus', { metrics: rowMetrics(SOURCE_ROWS) })
    return {
      extract: {
        type: 'prometheus',
        ...pointsOf(server.endpoint.url, Math.ceil(SOURCE_ROWS.length / SERIES)),
        queries: { rows: 'rows' },
        max_points: 3,
        retry: { attempts: 3, initial: '20ms', max: '50ms' },
      },
      from: { id: 'labels.id', micros: 'labels.micros', name: 'labels.name' },
      recordBytes: 260,
      kill9: () => server.kill9(),
      restart: () => server.restart(),
      end: () => server.end(),
    }
  })
})
