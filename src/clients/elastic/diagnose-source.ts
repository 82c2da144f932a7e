/** What a cluster says of an index before a run reads it: asked by requests that change nothing. */
import type { DiagnoseEnv, Diagnosis } from '../../core/diagnosis.ts'
import { AdflowError } from '../../core/errors.ts'
import { diagnosisAt } from '../../core/findings.ts'
import { type Root, tls, version } from './diagnose.ts'
import { findIndexes } from './found-index.ts'
import { Elastic, placeOf } from './http.ts'
import type { IndexFetcherOptions } from './index-fetcher.ts'
import type { ConnectionOptions } from './options.ts'
import { ElasticReader } from './reader.ts'
import { findField } from './source-field.ts'

const LONGEST_ANSWER = 16 << 20

export function diagnoseElasticSource(
  connection: Omit<ConnectionOptions, 'requests'>,
  { index, field, query }: IndexFetcherOptions,
  env: DiagnoseEnv,
): Diagnosis {
  const url = placeOf(connection)
  const { signal } = env
  const limits = {
    connect_timeout: Math.min(connection.connect_timeout, env.answerMs),
    request_timeout: Math.min(connection.request_timeout, env.answerMs),
  }
  return diagnosisAt(`${url.host}/${index}`, async function* (at) {
    const reader = new ElasticReader(new Elastic({ ...connection, ...limits }, env.baseDir), LONGEST_ANSWER)
    const origin = `${url.host}/${index}`
    try {
      const { body } = await reader.json({ method: 'GET', path: [], signal, doing: `reach ${url.href}`, expect: [403] })
      const secured = connection.api_key !== undefined || connection.user !== undefined
      yield at.ok('reachable', secured ? 'answers, and takes the credentials' : 'answers; the job gives no credentials')
      const root = body as Partial<Root> | undefined
      if (root?.version !== undefined) yield version(at, root as Root)
      yield await tls(at, url, connection, env)
      try {
        const found = await findIndexes(reader, index, { origin, signal })
        if (field !== undefined) await findField(reader, index, field, { origin, signal })
        const count = found === undefined ? 'the index' : `${found.length} ${found.length === 1 ? 'index' : 'indexes'}`
        yield at.ok('target', `${count} can be read${field === undefined ? '' : ` on by ${field}`}`)
        await reader.json({
          method: 'POST',
          path: [index, '_count'],
          body: JSON.stringify(query === undefined ? {} : { query }),
          signal,
          doing: `search ${origin}`,
        })
        yield at.ok('permission', 'the user may search it')
      } catch (error) {
        if (!(error instanceof AdflowError)) throw error
        yield at.failure(error.code === 'SOURCE_DENIED' ? 'permission' : 'target', error)
      }
    } finally {
      await reader.close()
    }
  })
}
