/** Files of a folder on an SFTP server: each is a lane, read on from its byte offset. */
import { z } from 'zod'
import { discoverFiles } from '../clients/objects/discover-source.ts'
import { FileSet } from '../clients/objects/file-set.ts'
import {
  choiceShape,
  formatShape,
  list,
  remoteShape,
  settlingShape,
  texts,
} from '../clients/objects/reading-options.ts'
import { diagnoseSftpSource } from '../clients/sftp/diagnose-source.ts'
import { FolderFiles, type FolderFilesOptions } from '../clients/sftp/folder-files.ts'
import { loginIsWhole, sftpShape } from '../clients/sftp/options.ts'
import { addressOf } from '../clients/sftp/session.ts'
import { defineExtractor } from '../core/define.ts'
import { discovery } from '../core/discovery.ts'
import { duration } from '../core/job/units.ts'

const writing = z
  .strictObject({
    names: texts
      .default(['**/*.part', '**/*.partial', '**/*.filepart', '**/*.tmp', '**/*.crdownload'])
      .describe('Glob patterns of names that files have until they are whole: those are not read.'),
    marker: z
      .string()
      .regex(/^[^/\p{Cc}]*\{name\}[^/\p{Cc}]*$/u, 'expected a name such as `{name}.done`')
      .optional()
      .describe('Only files beside which this file stands are read: `{name}.done`. `{name}`: the name of the file.'),
    stable: duration
      .optional()
      .describe('The folder is listed twice, so far apart; files whose size or time is another then wait.'),
  })
  .prefault({})
  .describe('By what a file is known that is still written: it waits for a later run.')

const options = z
  .strictObject({
    ...sftpShape,
    timeout: duration.prefault('20s').describe('How long the server may say nothing; then it is asked again.'),
    files: texts
      .default('**')
      .describe('Glob pattern, or a list of them, of files below `path`. Read in natural order.'),
    ...formatShape,
    writing,
    ...settlingShape,
    ...remoteShape,
    ...choiceShape,
    poll: duration.prefault('1m').describe('How often a job that runs for ever lists the folder again.'),
  })
  .superRefine(loginIsWhole)

type Options = z.infer<typeof options>

export default defineExtractor({
  summary: 'Files of an SFTP server: NDJSON, JSON, CSV, TSV, Avro, Parquet; plain, gzip or zstd; whole or growing.',
  description: `Each file is a lane. A run goes on where the last one stopped, inside the file too: appended bytes are read from their offset. A file
that was truncated or replaced is read from its start as a lane of its own, \`name#2\`; one that a rotation has renamed to \`name.1\` is followed.
Formats, compression, quarantine and what is said of them are those of the extractor [files](extractor-files.md).

SFTP knows no inode. What is compared is size and modification time (whole seconds), and where they differ, digests of the first 4096 and the last 256 bytes
that were read. A file that is overwritten within the second in which it was read, by as many bytes, is not noticed.

**Files that are still written** are known by their names, by a marker that is not there yet, or by a size that changes: see \`writing\`. Without that, a
file that grows is read up to its last whole record; a last line without a line end waits for \`settle\`, by the clock of the server.

**Nothing outside of \`path\` is touched**, and nothing is written. A name that leads elsewhere (\`../../x\`, \`/etc/x\`), is no name, or has control characters is a gap, and so is
a link that leads out of the folder. Links to files within are followed; links to folders are not. On this machine no name of the server names a file. What lies under
\`_adflow\` (manifests of the loader) is left out.

**The server** must be known: its key stands in \`known_hosts\`, or \`host_key\` has its fingerprint. All files share one connection, on which reads of
several files and several ranges of a file are under way at the same time; four megabytes are held for each of \`resources.parallel\` files. When the connection is cut
it is made anew, and reading goes on at the offset; a file that has changed meanwhile is a gap, which the next run fills. Parquet files are brought into the
chunk folder whole: the disk must hold \`resources.parallel\` of them.

One file's failure is a gap and costs no other file. Where the server does not answer at all, the rest is not asked for, and is one gap.

**Least privilege.** An account that may list and read below \`path\`, over SFTP only (\`ForceCommand internal-sftp -R\`).`,
  options,
  silenceMs: ({ timeout }) => Math.max(60_000, 2 * timeout),
  example: {
    url: 'sftp://adflow@sftp.example.com:22',
    path: 'reports',
    files: '2026/*.csv.gz',
    private_key: 'keys/adflow',
    known_hosts: 'keys/known_hosts',
    writing: { marker: '{name}.done' },
  },
  discovery: discovery(options, (chosen, env) =>
    discoverFiles(new FolderFiles(placeOf(chosen), env.baseDir), 'file', 'files', env.signal),
  ),
  diagnose: (chosen, env) => diagnoseSftpSource(chosen, new FolderFiles(placeOf(chosen), env.baseDir), env),
  create: (chosen, env) => {
    const { host, port } = addressOf(chosen)
    return new FileSet(chosen, env, {
      place: new FolderFiles(placeOf(chosen), env.baseDir),
      dataset: { namespace: `sftp://${host}:${port}`, name: chosen.path },
      folders: [],
      patterns: list(chosen.files),
    })
  },
})

function placeOf(chosen: Options): FolderFilesOptions {
  return {
    ...chosen,
    patterns: list(chosen.files),
    excluded: list(chosen.exclude),
    allowEmpty: chosen.allow_empty,
    maxFiles: chosen.max_files,
    writing: { ...chosen.writing, names: list(chosen.writing.names) },
  }
}
