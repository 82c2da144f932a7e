import { mkdirSync, utimesSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import sftp from '../../src/extractors/sftp.ts'
import { freshFolder } from '../harness/servers/fresh.ts'
import { startPrivate } from '../harness/servers/private.ts'
import type { SftpEndpoint } from '../harness/servers/sftp.ts'
import { sftpClient } from '../harness/servers/sftp-client.ts'
import { serverSuite } from '../harness/servers/suite.ts'
import { fileSample, parquetSample, SAMPLES } from './fixtures/files.ts'
import { type ExtractorFixture, extractorConformance } from './suites/extractor.ts'
import { type FaultySource, SOURCE_PARTS, sourceFaults } from './suites/source-faults.ts'

const loginTo = ({ knownHosts, privateKey, url }: SftpEndpoint) => ({
  url: url.replace(new URL(url).pathname, ''),
  private_key: privateKey,
  known_hosts: knownHosts,
})

/** The files of a sample in a folder of their own. */
async function remote(endpoint: SftpEndpoint, sample: ExtractorFixture): Promise<ExtractorFixture> {
  const folder = await freshFolder(endpoint)
  const client = await sftpClient(endpoint)
  for (const lane of Object.keys(sample.lanes))
    await client.put(await readFile(join(sample.baseDir, lane)), `${folder.path}/${lane}`)
  await client.end()
  const { path: files, ...options } = sample.options
  const place = { ...loginTo(endpoint), path: folder.path, unterminated: 'read' }
  return {
    ...sample,
    options: { ...options, ...place, files },
    broken: { ...options, ...place, files: 'nothing-*' },
    close: async () => {
      await sample.close()
      await folder.remove()
    },
  }
}

async function faulty(): Promise<FaultySource> {
  const server = await startPrivate('sftp')
  const { endpoint } = server
  const path = join(new URL(endpoint.url).pathname, 'rows')
  mkdirSync(path)
  for (const [name, text] of Object.entries(SOURCE_PARTS)) {
    await writeFile(join(path, name), text)
    utimesSync(join(path, name), 1_700_000_000, 1_700_000_000)
  }
  return {
    extract: {
      type: 'sftp',
      ...loginTo(endpoint),
      path,
      files: '*.ndjson',
      retry: { attempts: 3, initial: '20ms', max: '50ms' },
    },
    kill9: () => server.kill9(),
    restart: () => server.restart(),
    end: () => server.end(),
  }
}

await serverSuite('the extractor of SFTP', ['sftp'], ({ sftp: endpoint }) => {
  extractorConformance('sftp: tsv.zst', sftp, async () => remote(endpoint, await fileSample(SAMPLES['tsv.zst'])))
  extractorConformance('sftp: parquet', sftp, async () => remote(endpoint, await parquetSample()))
  sourceFaults('sftp', faulty)
})
