/** Objects of a bucket: each is a lane, read by ranges that name its ETag. */
import { z } from 'zod'
import { discoverFiles } from '../clients/objects/discover-source.ts'
import { FileSet } from '../clients/objects/file-set.ts'
import { choiceShape, formatShape, list, remoteShape, texts } from '../clients/objects/reading-options.ts'
import { BucketFiles, type BucketFilesOptions } from '../clients/s3/bucket-files.ts'
import { diagnoseBucketSource } from '../clients/s3/diagnose-source.ts'
import { bucketShape, keysGoTogether } from '../clients/s3/options.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'
import { byteSize, duration } from '../core/job/units.ts'

const SMALLEST_RANGE_BYTES = 64 << 10
const LARGEST_RANGE_BYTES = 256 << 20

const options = z
  .strictObject({
    ...bucketShape,
    timeout: duration.prefault('20s').describe('How long the server may say nothing; then it is asked again.'),
    files: texts
      .default('**')
      .describe('Glob pattern, or a list of them, of keys below `prefix`. Read in natural order.'),
    ...formatShape,
    incremental: z
      .enum(['all', 'key', 'time'])
      .default('all')
      .describe(
        '`all`: every object is listed and compared with the checkpoint. `key`: new keys come after those that were read (`2026/11/26/…`), and listing begins there; a key before them is never seen. `time`: objects that were modified before those that were read are passed over.',
      ),
    lag: duration
      .prefault('1h')
      .describe(
        'With `incremental: time`: objects may appear so much later than their time of modification, which for uploads in parts is when they began.',
      ),
    range: byteSize
      .refine((bytes) => bytes >= SMALLEST_RANGE_BYTES && bytes <= LARGEST_RANGE_BYTES, 'expected 64KiB to 256MiB')
      .prefault('8MiB')
      .describe('Bytes of one request. Four of them are held in memory for each of `resources.parallel` objects.'),
    ...remoteShape,
    ...choiceShape,
    poll: duration.prefault('1m').describe('How often a job that runs for ever lists the bucket again.'),
  })
  .superRefine(keysGoTogether)

type Options = z.infer<typeof options>

export default defineExtractor({
  summary:
    'Objects of S3, or of a server that speaks its protocol: NDJSON, JSON, CSV, TSV, Avro, Parquet; plain, gzip or zstd.',
  description: `Each object is a lane. A run goes on where the last one stopped, inside the object too, and asks for nothing of an object that was
read to its end. Formats, compression, quarantine and what is said of them are those of the extractor [files](extractor-files.md).

**An object is its key and its ETag.** Every request for its bytes carries \`If-Match\`, so bytes of two versions are never mixed. An object that is
replaced while it is read is a gap with SOURCE_CHANGED; the next run reads what stands there now from its start, as a lane of its own, \`key#2\`. An object
that is uploaded again with the same ETag is the same. One that is removed between listing and reading is a gap, once; one that is removed when a part
of it was read is a gap until its position is moved on.

**Finding objects.** The longest part of \`prefix\` and \`files\` without a pattern is listed. What lies under \`_adflow\` (manifests of the loader) is left out, and so are
keys with \`/\` at the end. The names of all objects that were listed are in memory. With \`incremental: key\` the listing begins behind the
last key before which everything had been read when the last run began; so the objects of that run are listed once more, and an object that
was a gap is never passed.

**Large objects** are read by ranges of \`range\`, two of them asked for ahead. A request that breaks off is made again, for its range alone. Objects
up to \`range\` are one request; of those up to 1 MiB sixteen are asked for ahead. Parquet objects are brought into the chunk folder whole: the disk must hold \`resources.parallel\` of them.

One object's failure is a gap and costs no other object. Where the server does not answer at all, the rest is not asked for, and is one gap.

**Least privilege.** \`s3:ListBucket\` on the bucket, \`s3:GetObject\` on its objects (and \`kms:Decrypt\` where they are encrypted so).`,
  options,
  silenceMs: ({ timeout }) => Math.max(60_000, 2 * timeout),
  example: {
    bucket: 'ads',
    prefix: 'events',
    files: '2026/**/*.ndjson.gz',
    incremental: 'key',
    region: 'eu-central-1',
  },
  discovery: discovery(options, (chosen, env) =>
    discoverFiles(new BucketFiles(placeOf(chosen), env.baseDir), 'object', 'files', env.signal),
  ),
  diagnose: (chosen, env) => diagnoseBucketSource(chosen, new BucketFiles(placeOf(chosen), env.baseDir), env),
  create: (chosen, env) =>
    // Objects appear whole: nobody writes them any more.
    new FileSet({ ...chosen, settle: 0, unterminated: 'read' }, env, {
      place: new BucketFiles(placeOf(chosen), env.baseDir),
      dataset: { namespace: `s3://${chosen.bucket}`, name: chosen.prefix ?? '/' },
      folders: [],
      patterns: list(chosen.files),
    }),
})

function placeOf(chosen: Options): BucketFilesOptions {
  return {
    ...chosen,
    patterns: list(chosen.files),
    excluded: list(chosen.exclude),
    allowEmpty: chosen.allow_empty,
    maxFiles: chosen.max_files,
    lagMs: chosen.lag,
    rangeBytes: chosen.range,
  }
}
