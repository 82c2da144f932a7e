/** Pairs expected things with found ones. */

/** expected index → found index, as many as can be paired at all: an expectation that says little must not take what one
 *  that says more needs. */
export function pair<E, F>(
  expected: readonly E[],
  found: readonly F[],
  matches: (expected: E, found: F) => boolean,
): Map<number, number> {
  const owner = new Map<number, number>()
  const claim = (entry: number, tried: Set<number>): boolean => {
    for (const [index, candidate] of found.entries()) {
      if (tried.has(index) || !matches(expected[entry] as E, candidate)) continue
      tried.add(index)
      const before = owner.get(index)
      if (before !== undefined && !claim(before, tried)) continue
      owner.set(index, entry)
      return true
    }
    return false
  }
  for (const entry of expected.keys()) claim(entry, new Set())
  return new Map([...owner].map(([index, entry]) => [entry, index]))
}
