import { HttpSource } from '../harness/http-source.ts'
import { SOURCE_ROWS, sourceFaults } from './suites/source-faults.ts'

sourceFaults('http', async () => {
  const server = await new HttpSource().start()
  server.pageRecords = 150
  server.lists['rows'] = [...SOURCE_ROWS]
  return {
    extract: {
      type: 'http',
      url: { rows: `${server.origin}/cursor/rows` },
      records: 'data.items',
      paginate: { type: 'cursor', path: 'meta.next' },
      again: 'added',
      retry: { attempts: 3, initial: '20ms', max: '50ms' },
      allow_private: true,
    },
    kill9: () => server.stop(),
    restart: async () => {
      await server.start()
    },
    end: () => server.stop(),
  }
})
