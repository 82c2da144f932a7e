import files from '../../src/extractors/files.ts'
import http from '../../src/extractors/http.ts'
import push from '../../src/extractors/push.ts'
import { fileSample, parquetSample, SAMPLES } from './fixtures/files.ts'
import { httpFixture } from './fixtures/http.ts'
import { pushFixture } from './fixtures/push.ts'
import { PAGED, PagedSource, pagedFixture } from './fixtures/staged.ts'
import { extractorConformance } from './suites/extractor.ts'

for (const [name, sample] of Object.entries(SAMPLES))
  extractorConformance(`files: ${name}`, files, () => fileSample(sample))
extractorConformance('files: parquet', files, parquetSample)
extractorConformance('staged pages', new PagedSource(PAGED, 3).definition, pagedFixture)
extractorConformance('http', http, httpFixture)
extractorConformance('push', push, pushFixture)
