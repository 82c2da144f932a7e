import postgres from '../../src/extractors/postgres.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { faultyPostgres, postgresFixture } from './fixtures/postgres.ts'
import { extractorConformance } from './suites/extractor.ts'
import { sourceFaults } from './suites/source-faults.ts'

const retry = { attempts: 3, initial: '50ms', max: '200ms' }

await serverSuite('the extractors of PostgreSQL', ['postgres'], ({ postgres: server }) => {
  extractorConformance('postgres', postgres, () => postgresFixture(server))
  sourceFaults('postgres', () => faultyPostgres((url) => ({ type: 'postgres', url, table: 'rows', retry })))
})
