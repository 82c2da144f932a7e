/** The plain client of SFTP: gets one file and counts bytes. `get-sftp.ts HOST PORT USER KEY PATH BYTES` */
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { Writable } from 'node:stream'
import SftpClient from 'ssh2-sftp-client'

const [host = '', port, username = '', key = '', path = '', expected] = process.argv.slice(2)
const client = new SftpClient()
// Without it the client waits 40 ms for most answers.
const sock = connect({ host, port: Number(port) }).setNoDelay(true)
await client.connect({ sock, username, privateKey: readFileSync(key) })
let bytes = 0
const count = new Writable({
  write(piece: Buffer, _, done) {
    bytes += piece.length
    done()
  },
})
await client.get(path, count)
await client.end()
if (bytes !== Number(expected)) throw new Error(`got ${bytes} bytes, expected ${expected}`)
