/**
 * Totals since midnight, at the end of each step in which the group has rows. What comes for a step that has been told of changes it and
 * those of its day after it: they are told of anew.
 */
import { SEQUENCE } from './sequence.ts'
import { self } from './watermark.ts'
import { keysOf, knownRows, type WindowState } from './windows.ts'

/** SELECT of what is known of the day up to each step that the batch tells of. */
export function runningRows(state: WindowState): string {
  const { tables, earlyMs } = state
  const { rows, seen } = tables
  const [before, after] = [self(seen, '__before'), self(seen, '__after')]
  const keys = keysOf(state)
  const known = knownRows(state)
  const named = (alias: string) => keys.map((key) => `${alias}.${key}`).join(', ')
  const same = (one: string, other: string) =>
    keys.map((key) => `${one}.${key} IS NOT DISTINCT FROM ${other}.${key}`).join(' AND ')
  /** The steps of each group from the first of these changes on. */
  const from = (changes: string) =>
    `(${known}) __k JOIN (SELECT ${keys.join(', ')}, min(__end) AS __from FROM (${changes}) GROUP BY ${keys.join(', ')}) __c ON ${same('__k', '__c')} AND __k.__end >= __c.__from`
  const steps = (of: string, where: string, correction: boolean, provisional: boolean) =>
    `SELECT DISTINCT ${named('__k')}, __k.__at AS __w, __k.__end AS __w_end, ${correction} AS __correction, ${provisional} AS __provisional FROM ${of} WHERE ${where}`
  const late = `SELECT * FROM ${rows} WHERE __seq = ${SEQUENCE} AND __late`
  const due = [
    steps(`(${known}) __k`, `__k.__end > ${before} AND __k.__end <= ${after}`, false, false),
    steps(from(late), `__k.__end <= ${before}`, true, false),
  ]
  if (earlyMs !== undefined) {
    const news = `SELECT * FROM (${known}) WHERE ${self(seen, '__shows')} AND __nth > ${self(seen, '__shown')}`
    due.push(steps(from(news), `__k.__end > ${after}`, false, true))
  }
  return `SELECT __t.* EXCLUDE (__at, __end), __d.__w, __d.__w_end, __d.__correction, __d.__provisional FROM (${due.join(' UNION ALL ')}) __d JOIN (${known}) __t ON ${same('__d', '__t')} AND __t.__end <= __d.__w_end`
}
