/**
 * Producers of one transactional id fence each other, so the loaders of this process take turns: two loaders of one job into
 * one topic share the id, by which neither can write a batch that the other is just writing.
 */
import { Turnstile } from '../../core/turnstile.ts'

interface Holder {
  readonly turns: Turnstile
  last: object | undefined
}

const holders = new Map<string, Holder>()

/** `mine`: nobody else of this process has used the id since the last turn of `owner`. */
export async function inTurn<T>(id: string, owner: object, work: (mine: boolean) => Promise<T>): Promise<T> {
  const holder = holders.get(id) ?? { turns: new Turnstile(), last: undefined }
  holders.set(id, holder)
  const turn = holder.turns.take()
  await turn.ready
  try {
    const mine = holder.last === owner
    holder.last = owner
    return await work(mine)
  } finally {
    turn.done()
  }
}
