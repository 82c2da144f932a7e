/** Samples as lines of NDJSON. A value keeps the digits that the server sent; NaN and the infinities, for which JSON has no numbers, are texts. */
import { AdflowError } from '../../core/errors.ts'
import type { Series } from './api.ts'
import type { ExposedSample } from './exposition.ts'

/** Columns that say where a sample comes from. */
export interface SampleOrigin {
  readonly server: string
  readonly query?: string
}

/** About a piece of this many characters at once. */
const PIECE = 1 << 18

/** Pieces of whole lines. */
export function* seriesLines(series: readonly Series[], origin: SampleOrigin): Generator<Buffer> {
  let piece = ''
  for (const one of series) {
    const head = headOf(one.metric, origin)
    for (const [seconds, value] of one.values ?? (one.value === undefined ? [] : [one.value])) {
      piece += `${head}"time":${timeOf(Math.round(seconds * 1000))},"value":${valueText(value)}}\n`
      if (piece.length < PIECE) continue
      yield Buffer.from(piece)
      piece = ''
    }
    for (const [seconds, histogram] of one.histograms ?? (one.histogram === undefined ? [] : [one.histogram])) {
      piece += `${head}"time":${timeOf(Math.round(seconds * 1000))},"value":null,"histogram":${JSON.stringify(histogram)}}\n`
      if (piece.length < PIECE) continue
      yield Buffer.from(piece)
      piece = ''
    }
  }
  if (piece !== '') yield Buffer.from(piece)
}

/** `atMs`: the time of samples that have none of their own. */
export function* exposedLines(samples: Iterable<ExposedSample>, origin: SampleOrigin, atMs: number): Generator<Buffer> {
  let piece = ''
  for (const { name, labels, value, timeMs, type } of samples) {
    const head = headOf({ __name__: name, ...labels }, origin)
    piece += `${head}"type":${JSON.stringify(type)},"time":${timeOf(timeMs ?? atMs)},"value":${valueText(value)}}\n`
    if (piece.length < PIECE) continue
    yield Buffer.from(piece)
    piece = ''
  }
  if (piece !== '') yield Buffer.from(piece)
}

/** As a value of JSON. Go writes numbers in ways that JSON does not know; their digits stay. */
export function valueText(value: string): string {
  if (value === '-0') return '-0.0' // as an integer it would lose its sign
  if (/^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(value)) return value
  if (/^[+-]?nan$/i.test(value)) return '"NaN"'
  const [, infinite] = /^([+-]?)inf(?:inity)?$/i.exec(value) ?? []
  if (infinite !== undefined) return infinite === '-' ? '"-Infinity"' : '"Infinity"'
  const [, sign, whole = '', part = '', exponent = ''] = /^([+-]?)0*(\d*)(?:\.(\d*))?([eE][+-]?\d+)?$/.exec(value) ?? []
  const digits = /\d/.test(value.replace(exponent, ''))
  if (sign !== undefined && digits)
    return `${sign === '-' ? '-' : ''}${whole === '' ? '0' : whole}${part === '' ? '' : `.${part}`}${exponent}`
  return JSON.stringify(value)
}

function headOf(metric: Readonly<Record<string, string>>, { server, query }: SampleOrigin): string {
  const { __name__: name, ...labels } = metric
  const asked = query === undefined ? '' : `"query":${JSON.stringify(query)},`
  return `{"server":${JSON.stringify(server)},${asked}"metric":${JSON.stringify(name ?? null)},"labels":${JSON.stringify(labels)},`
}

function timeOf(ms: number): string {
  const time = new Date(ms)
  if (Number.isNaN(time.getTime()))
    throw new AdflowError('SOURCE_DAMAGED', `a sample has the time ${ms} ms, which is none`, {
      hint: 'what exposes it writes times that are not milliseconds since 1970: correct it there',
    })
  return `"${time.toISOString()}"`
}
