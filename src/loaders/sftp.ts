/** A folder of an SFTP server: files named by the batch's token, renamed into their place when they are whole, and a manifest that comes last. */
import { z } from 'zod'
import { compressionFitsFormat, encodingRemarks, publishedShape, WRITTEN_VALUES } from '../clients/objects/encoding.ts'
import { RemoteLoader } from '../clients/objects/remote-loader.ts'
import { diagnoseSftp } from '../clients/sftp/diagnose.ts'
import { SftpFolder } from '../clients/sftp/folder.ts'
import { loginIsWhole, sftpShape } from '../clients/sftp/options.ts'
import { addressOf } from '../clients/sftp/session.ts'
import { defineLoader } from '../core/define.ts'

const options = z
  .strictObject({
    ...sftpShape,
    create: z
      .enum(['missing', 'never'])
      .default('missing')
      .describe(
        '`missing`: the folder is made when it is not there. `never`: that is an error. Folders below it are made.',
      ),
    verify: z
      .enum(['size', 'content'])
      .default('size')
      .describe(
        'What is compared before a file gets its name: its size, or its content, read back. The connection itself notices bytes that change on the way.',
      ),
    ...publishedShape,
  })
  .superRefine(compressionFitsFormat)
  .superRefine(loginIsWhole)

export default defineLoader({
  summary: 'Puts Parquet, CSV or NDJSON files into a folder of an SFTP server.',
  description: `A file is named by the token of its batch, \`<path>/<partitions>/<name><24 digits>.<format>\`. It is sent under another name below
\`_adflow/tmp\`, synced, compared, and renamed (posix-rename), so that it appears complete or not at all. The batch is there when its
manifest \`_adflow/<name><token>.<format>.json\` has \`files\`: source, positions, digest, and each file with rows, bytes and SHA-256; while they
are on their way it has \`pending\` instead. Whoever picks files up and must not see a part of a partitioned batch reads the manifests; nothing
under \`_adflow\` ends as data does.

**Repetitions.** A batch that is written again is refused by its manifest. What a killed attempt has left has the names that the next one
uses: it is compared by its content and taken over, or replaced. A file that was sent in part is read back and compared, and the rest is sent; where it
differs it begins anew. What nobody takes up is removed after a day. SFTP cannot compare and replace in one step: of two *processes* that write the same batch at
the same moment both may say that they wrote it. The rows are there once all the same, since the names are those of the batch; and a job is held by one run at a time.

**The server** must be known: its key stands in \`known_hosts\`, or \`host_key\` has its fingerprint. There is no way around it. It needs
the extension posix-rename@openssh.com (OpenSSH, ProFTPD, SFTPGo); it syncs files before they get their names where it has fsync@openssh.com.

Batches are appended; there is no replace. A batch without rows gets a manifest and no file. A link below the folder that leads elsewhere is an error.

${WRITTEN_VALUES}

**Least privilege.** An account that may use SFTP only (\`ForceCommand internal-sftp\`, \`ChrootDirectory\`), and may make folders, write, read back,
rename and remove below \`path\`.`,
  options,
  example: {
    url: 'sftp://adflow@sftp.example.com:22',
    path: 'upload/ads',
    private_key: 'keys/adflow',
    known_hosts: 'keys/known_hosts',
    format: 'csv',
    compression: 'gzip',
  },
  check: encodingRemarks,
  diagnose: diagnoseSftp,
  create: (chosen, env) => {
    const { host, port } = addressOf(chosen)
    const dataset = { namespace: `sftp://${host}:${port}`, name: chosen.path }
    return new RemoteLoader(chosen, env, new SftpFolder(chosen, env.baseDir), dataset)
  },
})
