/** A prefix of a bucket as a place where objects are published. */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { setTimeout as delay } from 'node:timers/promises'
import type { S3Client } from '@aws-sdk/client-s3'
import pLimit, { type LimitFunction } from 'p-limit'
import { AdflowError, localIoError } from '../../core/errors.ts'
import type { Leftovers, LocalObject, PutContext, RemoteDocument, RemotePlace } from '../objects/remote-place.ts'
import { connectS3, registerKeys } from './connect.ts'
import { explainS3, isConflict, isMissing } from './errors.ts'
import type { BucketOptions, ObjectOptions } from './options.ts'
import { uploadInParts } from './parts.ts'
import { abortInterrupted } from './sweep.ts'

/** Pieces of files that are in memory at the same time, of all uploads. */
const PIECES_AT_ONCE = 4
/** Another process may replace what we have just looked at, a few times. */
const ROUNDS = 4
/** Of a document that is replaced meanwhile. */
const READS = 8
/** Somebody else is just writing to the key. */
const CONFLICT_DELAYS_MS = [50, 100, 200, 400, 800]
/** Of an object: by this metadata it is known without reading it. */
const DIGEST = 'adflow-sha256'

export interface BucketPlaceOptions extends BucketOptions, ObjectOptions {
  readonly create: 'missing' | 'never'
}

interface Connection {
  readonly s3: typeof import('@aws-sdk/client-s3')
  readonly client: S3Client
}

export class BucketPlace implements RemotePlace {
  readonly #options: BucketPlaceOptions
  readonly #baseDir: string
  readonly #pieces: LimitFunction = pLimit(PIECES_AT_ONCE)
  #connection: Promise<Connection> | undefined
  #leftovers: Leftovers | undefined

  constructor(options: BucketPlaceOptions, baseDir: string) {
    this.#options = options
    this.#baseDir = baseDir
    registerKeys(options)
  }

  nameOf(key: string): string {
    return `s3://${this.#options.bucket}/${this.#keyOf(key)}`
  }

  async open(leftovers: Leftovers): Promise<void> {
    this.#leftovers = leftovers
    await this.#asked(`look into ${this.nameOf('')}`, async ({ s3, client }, target) => {
      const look = new s3.ListObjectsV2Command({ ...target, Prefix: this.#keyOf(''), MaxKeys: 1 })
      await client.send(look).catch(async (error: unknown) => {
        if (this.#options.create === 'never' || (error as Error).name !== 'NoSuchBucket') throw error
        await client.send(new s3.CreateBucketCommand(target))
      })
    })
    await this.#sweep('', leftovers)
  }

  async read(key: string): Promise<RemoteDocument | undefined> {
    let before: RemoteDocument | undefined
    for (let round = 0; round < READS; round += 1) {
      const found = await this.#get(key)
      if (found === undefined || isOfItsVersion(found) || isSame(found, before)) return found
      before = found
    }
    throw new AdflowError('STORE_UNAVAILABLE', `${this.nameOf(key)} was another document each of ${READS} times`, {
      hint: 'let one process at a time run a job; what the other one writes is found by the next attempt',
    })
  }

  async write(key: string, text: string, was: string | undefined): Promise<string | undefined> {
    const body = Buffer.from(text)
    for (const wait of CONFLICT_DELAYS_MS) {
      const version = await this.#asked(`write ${this.nameOf(key)}`, async ({ s3, client }, target) => {
        const command = new s3.PutObjectCommand({
          ...target,
          Key: this.#keyOf(key),
          Body: body,
          ContentType: 'application/json',
          ChecksumSHA256: createHash('sha256').update(body).digest('base64'),
          ...this.#encryption(),
          ...conditionOf(was),
        })
        try {
          return (await client.send(command)).ETag
        } catch (error) {
          if (isConflict(error) || isMissing(error)) return undefined
          throw error
        }
      })
      if (version !== undefined) return version
      // It may be there all the same: the client repeats a request whose answer was lost.
      const there = await this.read(key)
      if (there?.text === text) return there.version
      if (there?.version !== was) return undefined
      await delay(wait)
    }
    return undefined
  }

  list(folder: string, prefix: string): Promise<readonly string[]> {
    return this.#asked(`list ${this.nameOf(folder)}`, async ({ s3, client }, target) => {
      const within = this.#keyOf(`${folder}/`)
      const names: string[] = []
      const request = { ...target, Prefix: `${within}${prefix}`, Delimiter: '/' }
      for await (const { Contents = [] } of s3.paginateListObjectsV2({ client }, request))
        for (const { Key = '' } of Contents) names.push(Key.slice(within.length))
      return names
    })
  }

  async bytesOf(key: string): Promise<number | undefined> {
    return (await this.#look(key))?.bytes
  }

  bytes(key: string): Promise<AsyncIterable<Uint8Array> | undefined> {
    return this.#asked(`read ${this.nameOf(key)}`, async ({ s3, client }, target) => {
      try {
        const { Body } = await client.send(new s3.GetObjectCommand({ ...target, Key: this.#keyOf(key) }))
        return this.#told(`read ${this.nameOf(key)}`, Body as AsyncIterable<Uint8Array> | undefined)
      } catch (error) {
        if (isMissing(error)) return undefined
        throw error
      }
    })
  }

  async put(key: string, object: LocalObject, { fresh, held, signal }: PutContext): Promise<void> {
    if (!fresh && this.#leftovers !== undefined)
      await this.#sweep(key, { ...this.#leftovers, owns: (found) => found === key })
    for (let round = 0; round < ROUNDS; round += 1) {
      const there = fresh && round === 0 ? undefined : await this.#look(key)
      if (there?.bytes === object.bytes && there.sha256 === object.sha256) return
      if (there !== undefined) await held()
      if (await this.#upload(key, object, there?.version, signal)) return
      await delay(CONFLICT_DELAYS_MS[round], undefined, { signal })
    }
    throw new AdflowError('STORE_UNAVAILABLE', `another process is writing ${this.nameOf(key)}`, {
      hint: 'let one process at a time run a job; nothing of the batch was published',
    })
  }

  async remove(key: string): Promise<void> {
    await this.#asked(`remove ${this.nameOf(key)}`, ({ s3, client }, target) =>
      client.send(new s3.DeleteObjectCommand({ ...target, Key: this.#keyOf(key) })),
    )
  }

  async close(): Promise<void> {
    const connection = await this.#connection?.catch(() => undefined) // it never opened
    connection?.client.destroy()
  }

  #get(key: string): Promise<RemoteDocument | undefined> {
    return this.#asked(`read ${this.nameOf(key)}`, async ({ s3, client }, target) => {
      try {
        const { Body, ETag } = await client.send(new s3.GetObjectCommand({ ...target, Key: this.#keyOf(key) }))
        return { text: (await Body?.transformToString()) ?? '', version: ETag ?? '' }
      } catch (error) {
        if (isMissing(error)) return undefined
        throw error
      }
    })
  }

  #sweep(below: string, leftovers: Leftovers): Promise<void> {
    return this.#asked(`look for interrupted uploads in ${this.nameOf(below)}`, ({ s3, client }, target) =>
      abortInterrupted({ s3, client, ...target, prefix: this.#keyOf(''), below }, leftovers),
    )
  }

  /** false: what is there is not what `was` names. */
  #upload(key: string, object: LocalObject, was: string | undefined, signal: AbortSignal): Promise<boolean> {
    return this.#asked(`write ${this.nameOf(key)}`, async ({ s3, client }, target) => {
      const { storage_class: storage, part_size: partBytes } = this.#options
      const request = {
        ...target,
        Key: this.#keyOf(key),
        Metadata: { [DIGEST]: object.sha256 },
        ...(storage === undefined ? {} : { StorageClass: storage as never }),
        ...this.#encryption(),
      }
      try {
        if (object.bytes > partBytes)
          await uploadInParts(
            { s3, client, request, condition: conditionOf(was), signal },
            { ...object, partBytes, limit: this.#pieces },
          )
        else
          await this.#pieces(async () => {
            const body = await readFile(object.file).catch((error: unknown) => {
              throw localIoError(error, `read back ${object.file}`)
            })
            const checksum = Buffer.from(object.sha256, 'hex').toString('base64')
            const command = new s3.PutObjectCommand({
              ...request,
              Body: body,
              ChecksumSHA256: checksum,
              ...conditionOf(was),
            })
            await client.send(command, { abortSignal: signal })
          })
        return true
      } catch (error) {
        if (isConflict(error) || (was !== undefined && isMissing(error))) return false
        throw error
      }
    })
  }

  #look(
    key: string,
  ): Promise<{ readonly bytes: number; readonly sha256: string | undefined; readonly version: string } | undefined> {
    return this.#asked(`look at ${this.nameOf(key)}`, async ({ s3, client }, target) => {
      try {
        const head = await client.send(new s3.HeadObjectCommand({ ...target, Key: this.#keyOf(key) }))
        return { bytes: head.ContentLength ?? 0, sha256: head.Metadata?.[DIGEST], version: head.ETag ?? '' }
      } catch (error) {
        if (isMissing(error)) return undefined
        throw error
      }
    })
  }

  async *#told(doing: string, stream: AsyncIterable<Uint8Array> | undefined): AsyncIterable<Uint8Array> {
    try {
      if (stream !== undefined) yield* stream
    } catch (error) {
      throw explainS3(error, doing)
    }
  }

  async #asked<T>(
    doing: string,
    work: (connection: Connection, target: { readonly Bucket: string }) => Promise<T>,
  ): Promise<T> {
    try {
      this.#connection ??= this.#connect()
      return await work(await this.#connection, { Bucket: this.#options.bucket })
    } catch (error) {
      throw explainS3(error, doing)
    }
  }

  async #connect(): Promise<Connection> {
    return { s3: await import('@aws-sdk/client-s3'), client: await connectS3(this.#options, this.#baseDir) }
  }

  #keyOf(key: string): string {
    const { prefix } = this.#options
    return prefix === undefined ? key : `${prefix}/${key}`
  }

  #encryption(): { readonly ServerSideEncryption?: 'AES256' | 'aws:kms'; readonly SSEKMSKeyId?: string } {
    const { encryption } = this.#options
    if (encryption === undefined) return {}
    if (encryption.type === 's3') return { ServerSideEncryption: 'AES256' }
    const { key } = encryption
    return { ServerSideEncryption: 'aws:kms', ...(key === undefined ? {} : { SSEKMSKeyId: key }) }
  }
}

function conditionOf(was: string | undefined): { readonly IfMatch: string } | { readonly IfNoneMatch: '*' } {
  return was === undefined ? { IfNoneMatch: '*' } : { IfMatch: was }
}

/** false: it may be, where the server encrypts. */
function isOfItsVersion({ text, version }: RemoteDocument): boolean {
  return version === `"${createHash('md5').update(text).digest('hex')}"`
}

/** A server that reads file and attributes one after the other may give one version's text with another's ETag, but not twice the same. */
function isSame(found: RemoteDocument, before: RemoteDocument | undefined): boolean {
  return found.text === before?.text && found.version === before.version
}
