/** Reads several lanes at the same time, at most one item ahead of the consumer in each. */

interface Pending<T> {
  readonly iterator: AsyncIterator<T>
  readonly next: Promise<{ readonly from: Pending<T>; readonly result: IteratorResult<T> }>
}

/**
 * Items in the order in which they become ready; those of one source in their order. Work on a source goes on only when
 * the consumer asks for more. `drop` gets items that were ready when the consumer stopped.
 */
export async function* interleave<T>(
  sources: Iterable<() => AsyncIterable<T>>,
  parallel: number,
  signal: AbortSignal,
  drop: (item: T) => Promise<void>,
): AsyncGenerator<T> {
  const waiting = sources[Symbol.iterator]()
  const active = new Set<Pending<T>>()
  const pull = (iterator: AsyncIterator<T>): void => {
    const pending: Pending<T> = { iterator, next: iterator.next().then((result) => ({ from: pending, result })) }
    pending.next.catch(() => undefined) // awaited below, or given up with the consumer
    active.add(pending)
  }
  let current: AsyncIterator<T> | undefined
  try {
    for (;;) {
      while (active.size < parallel && !signal.aborted) {
        const source = waiting.next()
        if (source.done === true) break
        pull(source.value()[Symbol.asyncIterator]())
      }
      if (active.size === 0) return
      const ready = await first(
        [...active].map((pending) => pending.next),
        signal,
      )
      if (ready === undefined || signal.aborted) return
      active.delete(ready.from)
      if (ready.result.done === true) continue
      current = ready.from.iterator
      yield ready.result.value
      pull(current)
      current = undefined
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    await endAll([current?.return?.(), ...[...active].map((pending) => giveUp(pending, drop))])
  }
}

/** All of them have ended before anybody hears that one has failed: what goes on would write beside whoever comes next. */
async function endAll(ends: readonly unknown[]): Promise<void> {
  const failed = (await Promise.allSettled(ends)).find((end) => end.status === 'rejected')
  if (failed !== undefined) throw failed.reason
}

async function giveUp<T>(pending: Pending<T>, drop: (item: T) => Promise<void>): Promise<void> {
  const last = await pending.next.catch(() => undefined) // whoever stopped the consumer has the reason
  try {
    if (last?.result.done === false) await drop(last.result.value)
  } finally {
    await pending.iterator.return?.()
  }
}

/** The first promise to settle; undefined when the signal comes first. Leaves no listener behind. */
async function first<R>(promises: readonly Promise<R>[], signal: AbortSignal): Promise<R | undefined> {
  const { promise, resolve } = Promise.withResolvers<undefined>()
  const stop = (): void => resolve(undefined)
  if (signal.aborted) stop()
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await Promise.race([promise, ...promises])
  } finally {
    signal.removeEventListener('abort', stop)
  }
}
