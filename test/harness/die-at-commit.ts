/**
 * Loaded before the CLI (`node --import`): the process kills itself, by SIGKILL, at the n-th commit into the server that keeps its
 * state: before it for odd n, with the answer under way for even n. `ADFLOW_TEST_DIE_AT_COMMIT` is n, from 1.
 */
import pg from 'pg'

const { query } = pg.Client.prototype
let left = Number(process.env['ADFLOW_TEST_DIE_AT_COMMIT'])
const after = left % 2 === 0

Object.assign(pg.Client.prototype, {
  query(this: pg.Client, ...args: unknown[]): unknown {
    // Of the state alone: the loader of PostgreSQL begins its transactions otherwise.
    if (typeof args[0] === 'string' && args[0].startsWith('BEGIN; SET LOCAL')) Object.assign(this, { ofState: true })
    const commits = args[0] === 'COMMIT' && (this as { ofState?: boolean }).ofState === true
    if (commits) left -= 1
    if (!commits || left > 0) return Reflect.apply(query, this, args)
    const die = () => process.kill(process.pid, 'SIGKILL')
    if (after) void (Reflect.apply(query, this, args) as Promise<unknown>).then(die)
    else die()
    return new Promise(() => {})
  },
})
