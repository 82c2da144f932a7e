/** An SFTP server that says whatever a test wants: names that lead elsewhere, sizes that are not true, files that may not be read. */
import { createHash, generateKeyPairSync } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import ssh2 from 'ssh2'

export interface HostileFile {
  readonly bytes: Buffer
  /** What the listing says of its size. */
  readonly size?: number
  readonly denied?: boolean
}

export interface HostileSftp extends AsyncDisposable {
  /** Options of the extractor. */
  readonly place: Readonly<Record<string, unknown>>
  /** Paths that were opened, in order. */
  readonly opened: readonly string[]
}

const { STATUS_CODE } = ssh2.utils.sftp
const FOLDER = 0o040755
const FILE = 0o100644
const MTIME = 1_700_000_000

/** A server whose folder `/drop` holds these names, whatever they are. */
export async function hostileSftp(files: Readonly<Record<string, HostileFile>>): Promise<HostileSftp> {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
  const pem = privateKey.export({ type: 'pkcs1', format: 'pem' }).toString()
  const opened: string[] = []
  const clients = new Set<ssh2.Connection>()
  const server = new ssh2.Server({ hostKeys: [pem] }, (client) => {
    clients.add(client)
    client.on('authentication', (asked) => asked.accept())
    client.on('error', () => undefined)
    client.on('session', (accept) => {
      accept().on('sftp', (acceptSftp) => serve(acceptSftp(), files, opened))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  const key = ssh2.utils.parseKey(pem)
  if (key instanceof Error) throw key
  const shown = Array.isArray(key) ? key[0] : key
  const fingerprint = createHash('sha256').update(shown.getPublicSSH()).digest('base64').replace(/=+$/, '')
  return {
    opened,
    place: {
      url: `sftp://someone@127.0.0.1:${port}`,
      path: '/drop',
      password: 'any',
      host_key: `SHA256:${fingerprint}`,
      timeout: '5s',
      retry: { attempts: 2, initial: '10ms', max: '20ms' },
    },
    [Symbol.asyncDispose]: async () => {
      for (const client of clients) client.end()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}

function serve(sftp: ssh2.SFTPWrapper, files: Readonly<Record<string, HostileFile>>, opened: string[]): void {
  const handles = new Map<number, { readonly listed: boolean; readonly file: HostileFile | undefined }>()
  const attributes = (mode: number, size: number) => ({ mode, uid: 0, gid: 0, size, atime: MTIME, mtime: MTIME })
  const open = (id: number, file: HostileFile | undefined) => {
    const handle = Buffer.alloc(4)
    handle.writeUInt32BE(id)
    handles.set(id, { listed: false, file })
    sftp.handle(id, handle)
  }
  const of = (handle: Buffer) => handles.get(handle.readUInt32BE())
  const fileAt = (path: string) => files[path.replace('/drop/', '')]
  sftp.on('REALPATH', (id, path) => sftp.name(id, [{ filename: path, longname: path, attrs: attributes(FOLDER, 0) }]))
  sftp.on('OPENDIR', (id) => open(id, undefined))
  sftp.on('READDIR', (id, handle) => {
    const found = of(handle)
    if (found?.listed !== false) return void sftp.status(id, STATUS_CODE.EOF)
    handles.set(handle.readUInt32BE(), { ...found, listed: true })
    const entries = Object.entries(files).map(([filename, { bytes, size = bytes.length }]) => ({
      filename,
      longname: filename,
      attrs: attributes(FILE, size),
    }))
    sftp.name(id, entries)
  })
  sftp.on('OPEN', (id, path) => {
    opened.push(path)
    const file = fileAt(path)
    if (file === undefined) return void sftp.status(id, STATUS_CODE.NO_SUCH_FILE)
    if (file.denied === true) return void sftp.status(id, STATUS_CODE.PERMISSION_DENIED)
    open(id, file)
  })
  sftp.on('FSTAT', (id, handle) => {
    const file = of(handle)?.file
    sftp.attrs(id, attributes(FILE, file?.size ?? file?.bytes.length ?? 0))
  })
  sftp.on('READ', (id, handle, offset, length) => {
    const bytes = of(handle)?.file?.bytes.subarray(offset, offset + length) ?? Buffer.alloc(0)
    if (bytes.length === 0) sftp.status(id, STATUS_CODE.EOF)
    else sftp.data(id, bytes)
  })
  sftp.on('CLOSE', (id) => sftp.status(id, STATUS_CODE.OK))
}
