/** Reads a table by COPY, and does nothing with it: `read-table.ts URL TABLE`. */
import { Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Client } from 'pg'
import { to } from 'pg-copy-streams'

const [url = '', table = ''] = process.argv.slice(2)
const client = new Client({ connectionString: url })
await client.connect()
const nowhere = new Writable({ write: (_bytes, _encoding, done) => done() })
await pipeline(client.query(to(`COPY ${table} TO STDOUT WITH (FORMAT csv)`)), nowhere)
await client.end()
