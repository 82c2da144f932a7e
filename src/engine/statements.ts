/** Statements of this process that are under way: for whoever must know that one does not return. */

const begunMs = new Set<{ readonly at: number }>()

export async function underWay<T>(statement: () => Promise<T>): Promise<T> {
  const own = { at: performance.now() }
  begunMs.add(own)
  try {
    return await statement()
  } finally {
    begunMs.delete(own)
  }
}

/** How long the one that began first has been at work, in milliseconds; 0: there is none. */
export function longestStatementMs(): number {
  const [first] = begunMs
  return first === undefined ? 0 : performance.now() - first.at
}
