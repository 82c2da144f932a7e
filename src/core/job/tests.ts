/** The section tests. */
import type { z } from 'zod'
import type { Checker } from './checker.ts'
import type { JobTest, TestInput } from './job.ts'
import { expectedRows, type test } from './schema.ts'
import { didYouMean, orList } from './suggest.ts'

/** Names that a test may give to and expect from. */
export interface TestNames {
  readonly sources: readonly string[]
  /** Ids of loaders, consumers and steps. */
  readonly outputs: readonly string[]
}

export function readTests(checker: Checker, tests: readonly z.output<typeof test>[], names: TestNames): JobTest[] {
  const seen = new Set<string>()
  return tests.map((each, index) => {
    const path = ['tests', index]
    if (seen.has(each.name))
      checker.add([...path, 'name'], `a second test called \`${each.name}\``, 'name each differently')
    seen.add(each.name)
    const given = Object.entries(each.given).map(([source, content]): TestInput => {
      const at = [...path, 'given', source]
      known(checker, at, 'source', source, names.sources)
      return Array.isArray(content) ? { source, path: at, rows: content } : { source, path: at, lines: content.lines }
    })
    const { quarantine, ...outputs } = each.expect
    const expect = Object.keys(outputs).map((output) => {
      const at = [...path, 'expect', output]
      known(checker, at, 'loader, consumer or step', output, names.outputs)
      return { output, rows: checker.check(expectedRows, at) ?? [], path: at }
    })
    const clock = each.clock === undefined ? undefined : new Date(each.clock).toISOString()
    return { name: each.name, clock, given, expect, quarantine, path }
  })
}

function known(
  checker: Checker,
  path: readonly (string | number)[],
  what: string,
  name: string,
  all: readonly string[],
): void {
  if (!all.includes(name))
    checker.add(path, `there is no ${what} \`${name}\``, didYouMean(name, all) ?? `there are: ${orList(all)}`, 'key')
}
