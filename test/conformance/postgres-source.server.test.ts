import postgres from '../../src/extractors/postgres.ts'
import changes from '../../src/extractors/postgres_cdc.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { changesFixture, faultyPostgres, postgresFixture } from './fixtures/postgres.ts'
import { extractorConformance } from './suites/extractor.ts'
import { sourceFaults } from './suites/source-faults.ts'

const retry = { attempts: 3, initial: '50ms', max: '200ms' }

await serverSuite('the extractors of PostgreSQL', ['postgres'], ({ postgres: server }) => {
  extractorConformance('postgres', postgres, () => postgresFixture(server))
  extractorConformance('postgres_cdc', changes, changesFixture)
  sourceFaults('postgres', () => faultyPostgres((url) => ({ type: 'postgres', url, table: 'rows', retry })))
  sourceFaults('postgres_cdc', () =>
    faultyPostgres((url) => ({ type: 'postgres_cdc', url, tables: ['rows'], retry }), {
      from: { id: 'after.id', micros: 'after.micros', name: 'after.name' },
      recordBytes: 260,
    }),
  )
})
