import { describe, expect, it } from 'vitest'
import { parseYaml } from '../../../src/core/job/document.ts'
import type { Problem } from '../../../src/core/job/problems.ts'
import { Problems } from '../../../src/core/job/problems.ts'

function mistakes(text: string): [string, string][] {
  const problems = new Problems('x.yaml', text)
  expect(parseYaml(text, problems)).toBeUndefined()
  try {
    problems.throwIfAny()
  } catch (error) {
    const found = (error as { details: { problems: Problem[] } }).details.problems
    return found.map(({ at, message }) => [at.replace('x.yaml:', ''), message])
  }
  throw new Error('the text was accepted')
}

function value(text: string): unknown {
  const problems = new Problems('x.yaml', text)
  const document = parseYaml(text, problems)
  problems.throwIfAny()
  return document?.value
}

describe('YAML of a job file', () => {
  it('keeps every digit of integers and decimals', () => {
    expect(
      value('[9007199254740991, 9007199254740993, -9223372036854775808, 0.1, 1e3, 12345678901234.567890]'),
    ).toEqual([9007199254740991, 9007199254740993n, -9223372036854775808n, 0.1, 1000, '12345678901234.567890'])
  })

  it('reads dates and the words yes, no, on, off as text', () => {
    expect(value('[2026-03-01, yes, no, on, off, true, ~]')).toEqual([
      '2026-03-01',
      'yes',
      'no',
      'on',
      'off',
      true,
      null,
    ])
  })

  it('follows aliases, and places of their content are where it is written', () => {
    const text = 'a: &x { k: 1 }\nb: *x'
    const document = parseYaml(text, new Problems('x.yaml', text))
    expect(document?.value).toEqual({ a: { k: 1 }, b: { k: 1 } })
    expect(document?.places.value(['b', 'k'])).toEqual({ line: 1, column: 12 })
    expect(document?.places.key(['b'])).toEqual({ line: 2, column: 1 })
  })

  const bomb = ['a0: &a0 [x,x,x,x,x,x,x,x,x,x]']
  for (let level = 1; level < 9; level++) bomb.push(`a${level}: &a${level} [${Array(10).fill(`*a${level - 1}`)}]`)

  it.each([
    ['an empty file', '', '1:1', 'the file is empty'],
    ['only a comment', '# nothing\n', '1:1', 'the file is empty'],
    ['a key twice', 'a: 1\nb:\n  c: 1\n  c: 2\n', '4:3', 'this key is written twice in the same map; keep one of them'],
    ['an open list', 'a: [1, 2\nb: 3\n', '2:1', /^not valid YAML: .*must be sufficiently indented/],
    ['an open quote', 'a: "x\n', '2:1', /^not valid YAML: Missing closing "quote/],
    ['a tab as indent', 'a:\n\tb: 1\n', '2:1', /^not valid YAML: .*[Tt]ab/],
    ['two documents', 'a: 1\n---\nb: 2\n', '2:1', 'a job file holds one YAML document; split it into files at `---`'],
    ['a tag', 'a: !secret x\n', '1:4', 'the YAML tag `!secret` is not supported; write a plain value'],
    ['a list as key', '? [a]\n: 1\n', '1:3', /^not valid YAML: .*string/],
    ['__proto__', 'a:\n  __proto__: { x: 1 }\n', '2:3', 'a key must not be called `__proto__`'],
    ['a merge key', 'a: &a { x: 1 }\nb:\n  <<: *a\n', '3:3', 'merge keys (`<<`) are not supported; write the keys out'],
    ['an alias of nothing', 'a: *b\n', '1:4', /no anchor|Unresolved alias/],
    ['an alias of itself', 'a: &a [*a]\n', '1:8', 'nested deeper than 64 levels'],
    ['deep nesting', `a: ${'['.repeat(80)}${']'.repeat(80)}\n`, '1:68', 'nested deeper than 64 levels'],
    ['aliases that multiply', bomb.join('\n'), '4:38', 'aliases expand to more than 10000 values'],
    [
      'more than 1 MB',
      `a: ${'x'.repeat(1_000_001)}`,
      '1:1',
      'the file is larger than 1 MB, which no job file needs to be',
    ],
  ])('refuses %s', (_, text, place, message) => {
    expect(mistakes(text)[0]).toEqual([place, typeof message === 'string' ? message : expect.stringMatching(message)])
  })

  it('names every mistake of the syntax, in order', () => {
    expect(mistakes('a: 1\na: 2\nb: 1\nb: 2\n').map(([at]) => at)).toEqual(['2:1', '4:1'])
  })
})
