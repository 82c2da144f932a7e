import { Connection } from '@platformatic/kafka'
import type { DyingProcess } from './dying-process.ts'

/** Each request is a step: a dead process sends nothing more, and its connections are gone. Returns how to undo that. */
export function requestsAsSteps(dying: DyingProcess): () => void {
  const send = Connection.prototype.send as (...args: unknown[]) => unknown
  Object.assign(Connection.prototype, {
    send(this: Connection, ...args: unknown[]) {
      try {
        dying.step()
      } catch (error) {
        this.socket.destroy()
        return (args.at(-1) as (failed: unknown) => void)(error)
      }
      return Reflect.apply(send, this, args)
    },
  })
  return () => Object.assign(Connection.prototype, { send })
}
