/** Serves pages of a folder that were rendered before: `/0`, `/1` … Says its port on standard output. */
import { createReadStream, statSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'

const folder = process.argv[2] ?? ''
const server = createServer((request, response) => {
  const path = join(folder, /^\/(\d+)$/.exec(request.url ?? '')?.[1] ?? 'none')
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': statSync(path).size })
  createReadStream(path).pipe(response)
})
server.listen(0, '127.0.0.1', () => process.stdout.write(`${(server.address() as AddressInfo).port}\n`))
