/** One route of fastify that appends the body to a file, syncs it, and answers: `fastify-append.ts PORT FILE`. */
import { open } from 'node:fs/promises'
import fastify from 'fastify'

const [port = '0', path = ''] = process.argv.slice(2)
const file = await open(path, 'a')
const app = fastify({ bodyLimit: 8 << 20 })
app.addContentTypeParser('application/x-ndjson', { parseAs: 'buffer' }, (_, body, done) => done(null, body))
app.post('/', async (request, reply) => {
  await file.appendFile(request.body as Buffer)
  await file.datasync()
  return reply.code(202).send({ accepted: true })
})
await app.listen({ host: '127.0.0.1', port: Number(port) })
process.stderr.write('listens\n')
