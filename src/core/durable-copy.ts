/**
 * A second place that must have every durable change of a folder before it counts as durable: what `durable.ts` promises then
 * holds for both, in the same order. A folder that has none costs one look into an empty map.
 */
import { sep } from 'node:path'

/** `replaced`: written anew, or removed. `appended`: only its end is new. `listed`: names in this folder have come or gone. */
export type DurableChange = 'replaced' | 'appended' | 'listed'

export interface DurableCopy {
  /** Resolves when the copy has what is at `path` now, and all that was changed before. */
  changed(path: string, how: DurableChange): Promise<void>
  /** The same for what others than `durable.ts` write into the folder: the file of the engine. */
  settle(): Promise<void>
  /** Throws where another process has taken over: nothing may be done any more that others would see. */
  check(): void
}

const copies = new Map<string, DurableCopy>()

/** From now on durable changes below `root` wait for `copy`, until the function that is returned is called. */
export function alsoDurable(root: string, copy: DurableCopy): () => void {
  copies.set(root, copy)
  return () => {
    copies.delete(root)
  }
}

/** Call after the change is durable here. */
export async function copied(path: string, how: DurableChange): Promise<void> {
  if (copies.size > 0) await copyOf(path)?.changed(path, how)
}

/** Resolves when what the engine has committed below `root` is durable wherever it must be. On this machine it is by itself. */
export async function settled(root: string): Promise<void> {
  await copyOf(root)?.settle()
}

/** Call before something is done that others see. Throws where another process has taken the folder over. */
export function mayGoOn(path: string): void {
  if (copies.size > 0) copyOf(path)?.check()
}

function copyOf(path: string): DurableCopy | undefined {
  for (const [root, copy] of copies) if (path === root || path.startsWith(root + sep)) return copy
  return undefined
}
