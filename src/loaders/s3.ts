/** A bucket of S3 or of anything that speaks its protocol: objects named by the batch's token, and a manifest that is written last. */
import { z } from 'zod'
import { compressionFitsFormat, encodingRemarks, publishedShape, WRITTEN_VALUES } from '../clients/objects/encoding.ts'
import { RemoteLoader } from '../clients/objects/remote-loader.ts'
import { BucketPlace } from '../clients/s3/bucket.ts'
import { diagnoseBucket } from '../clients/s3/diagnose.ts'
import { bucketShape, keysGoTogether, objectShape } from '../clients/s3/options.ts'
import { bucketRemarks } from '../clients/s3/remarks.ts'
import { defineLoader } from '../core/define.ts'

const options = z
  .strictObject({
    ...bucketShape,
    create: z
      .enum(['never', 'missing'])
      .default('never')
      .describe(
        '`missing`: the bucket is made when it is not there. `never`: that is an error, since a bucket has an owner, a region and rules that are not made by the way.',
      ),
    ...publishedShape,
    ...objectShape,
  })
  .superRefine(compressionFitsFormat)
  .superRefine(keysGoTogether)

export default defineLoader({
  summary: 'Writes Parquet, CSV or NDJSON objects into a bucket of S3 or of a server that speaks its protocol.',
  description: `An object is named by the token of its batch, \`<prefix>/<partitions>/<name><24 digits>.<format>\`, and appears complete or not
at all. The batch is there when its manifest \`_adflow/<name><token>.<format>.json\` has \`files\`: source, positions, digest, and each
object with rows, bytes and SHA-256; while they are on their way it has \`pending\` instead. A reader that must not see a part of a
partitioned batch reads the manifests; one that lists \`*.parquet\` sees whole objects at all times, and nothing under \`_adflow\` ends so.

**Repetitions.** The manifest is only ever replaced under a condition (\`If-None-Match: *\`, \`If-Match\`), so that of several writers
of one batch exactly one publishes it, and the others find it there. A batch that is written again is refused by its manifest. What a
killed attempt has left has the names that the next one uses: the same bytes are taken over, others are replaced under \`If-Match\`. Every
upload carries its SHA-256, which the server checks. The server must know conditional writes: AWS, MinIO and versitygw do.

**Large files** are uploaded in parts of \`part_size\`. Parts of an upload that was interrupted are removed when the loader is opened the next time, or
when the batch is written again; those of other loaders with the same prefix and name after a day. (MinIO lists uploads by whole keys only: there they go when the
batch is written again.) A lifecycle rule that does the same costs nothing and is worth having.

Batches are appended. There is no replace: objects cannot be exchanged in one step that every reader honours; put a new prefix beside
the old one. A batch without rows gets a manifest and no object. SSE-C (keys that the client sends along) is not offered: every reader would need the
key of every object.

${WRITTEN_VALUES}

**Least privilege.** On the objects below the prefix \`s3:GetObject\`, \`s3:PutObject\`, \`s3:AbortMultipartUpload\`; on the bucket \`s3:ListBucket\` and
\`s3:ListBucketMultipartUploads\`. \`s3:DeleteObject\` is needed only where partitions of a batch differ from those of its killed attempt
(the job was changed in between), and to write a batch of the past anew. With \`encryption: { type: kms }\` also \`kms:GenerateDataKey\` and \`kms:Decrypt\`; with
\`create: missing\` \`s3:CreateBucket\`.`,
  options,
  example: {
    bucket: 'ads',
    prefix: 'events',
    region: 'eu-central-1',
    format: 'parquet',
    partition: { dt: "strftime(event_time, '%Y-%m-%d')" },
  },
  async check(chosen, env) {
    return [...(await encodingRemarks(chosen, env)), ...bucketRemarks(chosen, env.path)]
  },
  diagnose: diagnoseBucket,
  create: (chosen, env) =>
    new RemoteLoader(chosen, env, new BucketPlace(chosen, env.baseDir), {
      namespace: `s3://${chosen.bucket}`,
      name: chosen.prefix ?? '/',
    }),
})
