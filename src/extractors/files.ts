/** Local files: globs, formats, compression; lanes are files, positions are byte offsets (Parquet: rows). */
import { resolve } from 'node:path'
import { z } from 'zod'
import { CountAhead } from '../clients/objects/count-ahead.ts'
import { diagnoseSources } from '../clients/objects/diagnose.ts'
import { baseFolders, type Selection } from '../clients/objects/discover.ts'
import { discoverFiles } from '../clients/objects/discover-source.ts'
import { FileSet } from '../clients/objects/file-set.ts'
import { LocalPlace } from '../clients/objects/local-place.ts'
import { choiceShape, formatShape, list, settlingShape, texts } from '../clients/objects/reading-options.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'

const options = z.strictObject({
  path: texts.describe(
    'File or glob pattern, or a list of them; relative to the folder of the job file. Read in natural order.',
  ),
  ...formatShape,
  ...settlingShape,
  ...choiceShape,
})

type Options = z.infer<typeof options>

export default defineExtractor({
  summary: 'Local files: NDJSON, JSON, CSV, TSV, Avro, Parquet; plain, gzip or zstd; whole, growing or rotated.',
  description: `Each file is a lane. A run goes on where the last one stopped, inside the file too: appended bytes are read from
their offset, a renamed file is followed (same inode and birth, or the copy \`name.1\` that a rotation left), and a file that
was truncated or replaced is read from its start as a lane of its own, \`name#2\`. What is compared is kept in the checkpoint:
inode, birth, size, and digests of the first 4096 and the last 256 bytes that were read.

A last line without a line end may be half written, so it waits: until it is a whole JSON object, or until the file was not
modified for \`settle\`.

A compressed file cannot be entered in the middle: going on inside it decompresses everything before the position once
more. A file that was read to its end and did not change is not opened.

**Avro**: container files, whose blocks are plain or compressed by deflate, snappy or zstandard. Values become JSON as those of [kafka](extractor-kafka.md) do, exactly, by the schema in the file. A chunk is made
of whole blocks; \`line\` of a quarantined record is its number in the file, and its JSON is kept. A block that is cut off waits until the file has settled; a damaged one, as it has no edges
between records, is a gap.

A whole NDJSON file of up to one and a half chunks, once it has settled, and every Parquet file are read where they are; where all
records are streamed into one store, NDJSON files of up to \`resources.whole_file\` are too. They are read by a
second name (hard link) in the chunk folder, or, where that is on another file system, by their own. They are copied only where
neither can be: a link that leads out of the folders of \`path\`, or a name with pattern characters.

One file's failure is a gap and costs no other file: unreadable, truncated gzip, a zip bomb, a broken Parquet footer. The
position stays before the damage, so that a repaired file is read on. A record beyond \`max_record_bytes\`, a quote that is
never closed, a JSON value that is cut off are quarantined with their bytes and place, and reading goes on after them.`,
  options,
  example: { path: 'events/*.ndjson' },
  access: (chosen, env) => ({ folders: baseFolders(list(chosen.path), env.baseDir) }),
  discovery: discovery(options, (chosen, env) =>
    discoverFiles(new LocalPlace(selectionOf(chosen, env.baseDir)), 'file', 'path', env.signal),
  ),
  diagnose(chosen, env) {
    const patterns = list(chosen.path).map((path) => resolve(env.baseDir, path))
    return diagnoseSources(patterns.join(', '), selectionOf(chosen, env.baseDir), env)
  },
  create: (chosen, env) => {
    const patterns = list(chosen.path)
    const names = patterns.map((path) => resolve(env.baseDir, path))
    const place = new LocalPlace(selectionOf(chosen, env.baseDir))
    return new FileSet(chosen, env, {
      place,
      ahead: new CountAhead(place),
      dataset: { namespace: 'file', name: names.join(',') },
      folders: baseFolders(patterns, env.baseDir),
      patterns,
    })
  },
})

function selectionOf({ path, exclude, allow_empty }: Options, baseDir: string): Selection {
  return { patterns: list(path), exclude: list(exclude), baseDir, allowEmpty: allow_empty }
}
