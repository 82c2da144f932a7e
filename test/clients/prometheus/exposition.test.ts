import { describe, expect, it } from 'vitest'
import { exposed } from '../../../src/clients/prometheus/exposition.ts'
import { exposedLines, valueText } from '../../../src/clients/prometheus/sample-lines.ts'

const read = (text: string, contentType = 'text/plain; version=0.0.4') => [
  ...exposed(text, contentType, 'http://exporter/metrics'),
]

describe('a page of samples', () => {
  it('is read with labels, times, types and every way to write a value', () => {
    const text = String.raw`# HELP http_requests_total Requests, with # and {braces}.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total { method = "get" , path = "C:\\DIR\\\"x\"\n,}=é", } 3 1395066363001

# TYPE latency_seconds histogram
latency_seconds_bucket{le="+Inf"} 144320
latency_seconds_sum 5.34230e+04
no_type NaN
up{} +Inf
down -Inf -3982045
{"dotted.name",a="b"} 1`
    const type = 'untyped'
    expect(read(text)).toEqual([
      {
        name: 'http_requests_total',
        labels: { method: 'post', code: '200' },
        value: '1027',
        timeMs: 1395066363000,
        type: 'counter',
      },
      {
        name: 'http_requests_total',
        labels: { method: 'get', path: 'C:\\DIR\\"x"\n,}=é' },
        value: '3',
        timeMs: 1395066363001,
        type: 'counter',
      },
      { name: 'latency_seconds_bucket', labels: { le: '+Inf' }, value: '144320', timeMs: undefined, type: 'histogram' },
      { name: 'latency_seconds_sum', labels: {}, value: '5.34230e+04', timeMs: undefined, type: 'histogram' },
      { name: 'no_type', labels: {}, value: 'NaN', timeMs: undefined, type },
      { name: 'up', labels: {}, value: '+Inf', timeMs: undefined, type },
      { name: 'down', labels: {}, value: '-Inf', timeMs: -3982045, type },
      { name: 'dotted.name', labels: { a: 'b' }, value: '1', timeMs: undefined, type },
    ])
  })

  it('of OpenMetrics has seconds, exemplars and an end', () => {
    const open = 'application/openmetrics-text; version=1.0.0'
    const text = '# TYPE a counter\na_total{b="c"} 17.0 1520879607.789 # {trace="x"} 0.67 1520879606\n# EOF\n'
    expect(read(text, open)).toEqual([
      { name: 'a_total', labels: { b: 'c' }, value: '17.0', timeMs: 1520879607789, type: 'counter' },
    ])
    expect(() => read('a 1\n', open)).toThrow(/without `# EOF`/)
  })

  it.each([
    'a{b="c" 1',
    'a{b=c} 1',
    'a{b="c}',
    'a',
    'a one',
    'a 1 2 3',
    '{b="c"} 1',
    'a{b="c"d="e"} 1',
    'a 1 # {x="y"} 2 3 trailing'.replace(' # ', ' ! '),
    '<html><body>Log in</body></html>',
  ])('with the line %s is refused, by its number', (line) => {
    expect(() => read(`ok 1\n${line}\n`)).toThrow(/line 2 of http:\/\/exporter\/metrics is/)
  })
})

it.each([
  ['1e+06', '1e+06'],
  ['0.30000000000000004', '0.30000000000000004'],
  ['-0', '-0.0'],
  ['+5', '5'],
  ['.5', '0.5'],
  ['-007.', '-7'],
  ['12345678901234567890', '12345678901234567890'],
  ['NaN', '"NaN"'],
  ['+Inf', '"Infinity"'],
  ['-inf', '"-Infinity"'],
])('the value %s is %s in JSON', (value, text) => {
  expect(valueText(value)).toBe(text)
  expect(() => JSON.parse(text)).not.toThrow()
})

it('a time that is none is refused, not written', () => {
  const samples = read('a 1 99999999999999999')
  expect(() => [...exposedLines(samples, { server: 's' }, 0)]).toThrow(/which is none/)
})
