/** What a bucket says of itself before a run. Nothing is written: the one request that could is one that every server must refuse. */
import { createHash } from 'node:crypto'
import type { S3Client } from '@aws-sdk/client-s3'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../core/diagnosis.ts'
import type { AdflowError } from '../../core/errors.ts'
import { diagnosisAt, type Findings } from '../../core/findings.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import { connectS3, registerKeys } from './connect.ts'
import { explainS3, isConflict, isMissing, nameOf } from './errors.ts'
import type { BucketOptions } from './options.ts'

interface Question extends BucketOptions {
  readonly create: 'missing' | 'never'
}

interface Asked {
  readonly s3: typeof import('@aws-sdk/client-s3')
  readonly client: S3Client
  readonly signal: AbortSignal
  readonly bucket: string
  readonly prefix: string
}

export function diagnoseBucket(options: Question, env: DiagnoseEnv): Diagnosis {
  return diagnoseAnyBucket(options, env, async function* (at, asked, absent) {
    yield target(at, options.create, absent)
    if (absent === undefined) yield (await mayNotWrite(asked, at)) ?? (await maySweep(asked, at))
  })
}

/** `more`: what is asked once the server has answered; `absent`: that there is no such bucket. */
export function diagnoseAnyBucket(
  options: BucketOptions,
  env: DiagnoseEnv,
  more: (at: Findings, asked: Asked, absent: AdflowError | undefined) => AsyncIterable<Finding>,
  explain: typeof explainS3 = explainS3,
): Diagnosis {
  const { bucket, prefix = '', endpoint } = options
  const place = `${endpoint === undefined ? 's3:/' : new URL(endpoint).host}/${bucket}/${prefix}`
  registerKeys(options)
  return diagnosisAt(place, async function* (at) {
    const s3 = await import('@aws-sdk/client-s3')
    const limits = {
      timeout: Math.min(options.timeout, env.answerMs),
      connect_timeout: Math.min(options.connect_timeout, env.answerMs),
    }
    const client = await connectS3({ ...options, ...limits }, env.baseDir)
    const asked: Asked = { s3, client, signal: env.signal, bucket, prefix: prefix === '' ? '' : `${prefix}/` }
    let answered: { readonly askedMs: number; readonly answeredMs: number; readonly date: string } | undefined
    const headers = rememberHeaders(client)
    try {
      const askedMs = env.now()
      const looked = await look(asked, place, explain)
      const { date, server } = headers()
      if (date !== undefined) answered = { askedMs, answeredMs: env.now(), date }
      const absent = looked?.cause instanceof Error && nameOf(looked.cause) === 'NoSuchBucket'
      if (looked !== undefined && !absent) {
        yield at.failure('reachable', looked)
        return
      }
      yield at.ok('reachable', `answers${server === undefined ? '' : `, by ${server}`}`)
      yield tls(at, options.endpoint)
      yield* more(at, asked, absent ? looked : undefined)
      if (answered !== undefined)
        yield at.clock({
          ...answered,
          systemMs: Date.parse(answered.date),
          resolutionMs: 1000,
        })
    } finally {
      client.destroy()
    }
  })
}

async function look(
  { s3, client, signal, bucket, prefix }: Asked,
  place: string,
  explain: typeof explainS3,
): Promise<AdflowError | undefined> {
  try {
    const command = new s3.ListObjectsV2Command({ Bucket: bucket, Prefix: prefix, MaxKeys: 1 })
    await client.send(command, { abortSignal: signal })
    return undefined
  } catch (error) {
    return explain(error, `look into ${place}`)
  }
}

/** Of the last answer. */
function rememberHeaders(client: S3Client): () => { readonly date?: string; readonly server?: string } {
  let headers: Readonly<Record<string, string>> = {}
  client.middlewareStack.add(
    (next) => async (input) => {
      const result = await next(input)
      headers = (result.response as { readonly headers?: Readonly<Record<string, string>> }).headers ?? {}
      return result
    },
    { step: 'deserialize', priority: 'low' },
  )
  return () => headers
}

function tls(at: Findings, endpoint: string | undefined): Finding {
  if (endpoint === undefined || endpoint.startsWith('https:'))
    return at.ok('tls', 'https, and the certificate is checked')
  if (isThisMachine(new URL(endpoint).hostname)) return at.ok('tls', 'not encrypted, on this machine')
  return at.warning('tls', 'not encrypted: data can be read on the way', 'name the server by `https://` in `endpoint`')
}

function target(at: Findings, create: 'missing' | 'never', absent: AdflowError | undefined): Finding {
  if (absent === undefined) return at.ok('target', 'the bucket is there')
  return create === 'missing' ? at.ok('target', 'would be made: the bucket') : at.failure('target', absent)
}

/** An object that is only written where it is there already, with a digest that is not its own: permission is asked first. */
async function mayNotWrite({ s3, client, signal, bucket, prefix }: Asked, at: Findings): Promise<Finding | undefined> {
  const command = new s3.PutObjectCommand({
    Bucket: bucket,
    Key: `${prefix}_adflow/doctor`,
    Body: Buffer.from('never written'),
    ChecksumSHA256: createHash('sha256').update('other bytes').digest('base64'),
    IfMatch: '"00000000000000000000000000000000"',
  })
  try {
    await client.send(command, { abortSignal: signal })
  } catch (error) {
    if (isConflict(error) || isMissing(error) || /Digest|Checksum/.test(nameOf(error))) return undefined
    return at.failure('permission', explainS3(error, `write to s3://${bucket}/${prefix}`))
  }
  return at.warning(
    'permission',
    'the server has taken an object whose digest is wrong, under a condition that does not hold: s3://' +
      `${bucket}/${prefix}_adflow/doctor`,
    'do not load into this server: it checks neither; remove that object',
  )
}

async function maySweep({ s3, client, signal, bucket, prefix }: Asked, at: Findings): Promise<Finding> {
  try {
    const command = new s3.ListMultipartUploadsCommand({ Bucket: bucket, Prefix: prefix, MaxUploads: 1 })
    await client.send(command, { abortSignal: signal })
    return at.ok('permission', 'objects may be written, and interrupted uploads listed')
  } catch (error) {
    const { message } = explainS3(error, 'list interrupted uploads')
    return at.warning(
      'permission',
      message,
      'grant s3:ListBucketMultipartUploads, or give the bucket a lifecycle rule that removes interrupted uploads',
    )
  }
}
