/** Puts an entry into the cache of installed servers, or dies on the way: `install-child.ts whole|die LOG`. */
import { appendFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { cached } from './servers/core/cache.ts'

const [how, log = ''] = process.argv.slice(2)

await cached('thing-1', async (folder) => {
  writeFileSync(join(folder, how === 'die' ? 'half' : 'program'), '')
  if (how === 'die') process.kill(process.pid, 'SIGKILL')
  appendFileSync(log, 'installed\n')
})
