import { z } from 'zod'
import type { Relation } from '../core/contracts.ts'
import { isTimezone } from '../core/cron.ts'
import { defineStep } from '../core/define.ts'
import { identifier } from '../core/job/identifier.ts'
import { duration } from '../core/job/units.ts'
import type { CompiledStep, StepEnv } from '../core/step-contract.ts'
import { checkNames, union } from '../engine/step-columns.ts'
import { watermarkShape } from '../engine/watermark.ts'
import { compileWindow } from '../engine/window-step.ts'
import { type Windows, windowDdl, windowDue, windowMark, windowSweep } from '../engine/windows.ts'

/** So many windows of one row are still a table, and not a mistake. */
const MAX_OVERLAP = 1000

const expression = z.string().trim().min(1)
const DAY_MS = 86_400_000
const MAX_MS = 366 * DAY_MS
const span = duration.refine((ms) => ms > 0 && ms <= MAX_MS, 'more than nothing, and at most 366 days')

const options = z
  .strictObject({
    id: identifier.optional().describe('Name of the step, where others refer to it; the state goes by it.'),
    time: z.string().min(1).describe('Timestamp column: when the event happened.'),
    every: span
      .optional()
      .describe(
        'A window begins every so often, counted from midnight UTC of a Monday; without `size` it is as long (tumbling).',
      ),
    size: span.optional().describe('Length of a window, a multiple of `every` (hopping): a row is in several windows.'),
    gap: span
      .optional()
      .describe('Instead of `every`: a window ends when nothing of its group has come for so long (session).'),
    cumulative: z
      .strictObject({
        every: span
          .refine((ms) => ms >= 1000 && DAY_MS % ms === 0, 'at least a second, and a part of a day')
          .describe(
            'Length of a step, at the end of which the total is given; counted by the clocks of the time zone.',
          ),
        reset: z.enum(['day']).default('day').describe('When the total begins anew: at midnight of the time zone.'),
        timezone: z
          .string()
          .refine(isTimezone, 'is no time zone; write one such as `Asia/Shanghai`')
          .default('UTC')
          .describe('Time zone whose midnight it is.'),
      })
      .optional()
      .describe('Instead of `every`: totals since midnight, for each step in which the group has rows. Needs `late`.'),
    early: duration
      .refine((ms) => ms > 0, 'more than nothing')
      .optional()
      .describe(
        'Windows that are open are told of as well, with the first batch after so long, if something of theirs has come: rows with `provisional`. Not for `gap`. Needs `late`.',
      ),
    ...watermarkShape,
    late: z
      .strictObject({ to: identifier.describe('Name of the output, for `input` of a loader or consumer.') })
      .optional()
      .describe(
        'Records that find their window closed, and those without a time, go to an output of their own as they are, with `window_start` and `window_end` of what they have missed. Without it they come out as corrections.',
      ),
    by: z
      .array(
        z
          .union([z.string().min(1), z.record(z.string().min(1), expression)])
          .describe('Column, or a map: name → SQL expression over one row.'),
      )
      .default([])
      .describe('What makes a group. Empty: all rows of a window are one.'),
    select: z
      .record(z.string().min(1), expression.describe('SQL expression with aggregates.'))
      .refine((columns) => Object.keys(columns).length > 0, 'name at least one column')
      .describe('Output column → SQL expression with aggregates.'),
  })
  .refine(({ every, gap, cumulative }) => [every, gap, cumulative].filter((kind) => kind !== undefined).length === 1, {
    error: 'a window has one of `every`, `gap` and `cumulative`',
    path: ['every'],
  })
  .refine(({ early, gap }) => early === undefined || gap === undefined, {
    error: 'a session has no start that lasts before it is closed, so nothing can be told of it early',
    path: ['early'],
  })
  .refine(({ early, cumulative, late }) => late !== undefined || (early === undefined && cumulative === undefined), {
    error:
      'rows that replace each other leave no room for what comes too late: name an output for it, `late: { to: late }`',
    path: ['late'],
  })
  .refine(
    ({ every, size }) =>
      size === undefined || (every !== undefined && size % every === 0 && size / every <= MAX_OVERLAP),
    {
      error: `\`size\` is a multiple of \`every\`, at most ${MAX_OVERLAP} times`,
      path: ['size'],
    },
  )
  .describe('Windows on event time, and what is computed for each.')

export default defineStep({
  summary: 'Groups rows by windows of event time, over all batches, and gives each window once it is complete.',
  description: [
    'One output row for each group of a window, when the window closes: `window_start`, `window_end`, the columns of `by`, those of `select`, and `correction`. A window closes when the watermark passes its end. The watermark is `lateness` behind the newest event of the lane that is furthest behind; lanes of which no batch has come for `idle` do not count, nor do those that have never been heard of (`settle` gives them time, and `resources.parallel` must be no less than the lanes, or those that wait until others are read come late), and an event from the future moves it at most to the clock of its batch.',
    'Whatever the order in which records arrive, within the `lateness` the rows that come out are the same. A record that comes later than that, when its window has closed, is not dropped: it comes out in a row of its own with `correction` true, so that sums and counts stay right where rows are added up; so does a record without a time, with NULL for its window. With `late: { to: NAME }` there are no corrections and no column `correction`: such records are rows of the output NAME, which a loader must read (`input: NAME`), whole and once for each window that they have missed, with `window_start` and `window_end` (NULL for sessions: which it would have been nobody knows). Either way each record that arrives is in a window or told of. Aggregates over a floating-point column, and those that depend on the order of their rows (`first`, `list` without ORDER BY), may differ in what depends on the order.',
    '**Silence.** A run that ends leaves open what is open. A stream (`until: forever`) goes on: when all its sources were empty for longer than `idle` after the last batch, windows whose end lies `lateness` before now are closed, by a batch without a record, however far behind the newest event is; what comes for them later is late. `idle` is by the clock of the machine. A source that cannot be asked is not silent. Where events may come long after their time, and in one piece, let `idle` be longer than such a pause.',
    '**Early.** With `early: 10s` the first batch after so long, by the clock of the batches, also gives a row for each open window and group of which something has come since the last time: what is known so far, with `provisional` true. `version` rises with every batch, and the row of the closed window, `provisional` false, has the highest of its window. A store that merges by window and group, and lets the higher version win (ClickHouse: `key`, `version`), shows the provisional values and ends at the final ones. Where all rows are kept, the final ones are those that are not provisional.',
    '**Cumulative.** `cumulative: { every: 1m, timezone: Asia/Shanghai }` gives totals since midnight of the time zone: for each step in which the group has rows a row with `day`, `window_start` and `window_end` of the step, and the aggregates over the day up to its end. Steps are counted by the clocks of the time zone, so a day of 23 or 25 hours is one day, and its steps end on the quarter where 15 minutes are asked for. What comes when its step has been told of changes that step and the later ones of its day: they are given anew with `correction` true and a higher `version`, whole, so that a store that merges by `day`, `window_end` and group ends at the right totals. The day of the watermark and the one before it can be put right so; what is older, and what has no time, goes to the output of `late`. The aggregates must be such as can be merged: sum, count, min, max, count(distinct …), bool_and, bool_or, and what is computed of them.',
    'Where all aggregates are such, without `count(distinct …)`, and the windows are no sessions, what is kept is one row for each batch, group and smallest window instead of each row; a hundred batches later these are put together. So it is for running totals (with `count(distinct …)`: for each value, too). Other aggregates (median, list …) are computed of the rows, which are kept until their window closes.',
    'Rows of open windows stand in the state of the job; what they need is on disk, beyond the memory limit of the job. A batch that is repeated after a crash closes the same windows with the same rows. A window that is open when a run ends is closed by a later one. Other columns, groups or windows under the same id begin with no rows: let the windows close first, or give the step another `id`.',
    'Output rows are new ones: a failure in an aggregate stops the batch. Cast and check in a step before.',
  ].join('\n\n'),
  options,
  example: {
    time: 'event_time',
    every: '1m',
    lateness: '10s',
    settle: '0s',
    by: ['campaign_id'],
    select: { impressions: 'count(*)', spend: 'sum(cost)' },
  },
  sample: {
    columns: { campaign_id: 'BIGINT', event_time: 'TIMESTAMP', cost: 'DECIMAL(18, 6)' },
    rows: [
      { campaign_id: 2, event_time: '1999-03-01 10:00:59', cost: '0.1' },
      { campaign_id: 1, event_time: '1999-03-01 10:00:00', cost: '0.2' },
      { campaign_id: 2, event_time: '1999-03-01 10:01:00', cost: '0.4' },
      { campaign_id: 2, event_time: '1999-03-01 10:00:01', cost: '0.5' },
      { campaign_id: 1, event_time: '1999-03-01 10:01:10', cost: '0.3' },
    ],
    expect: [
      {
        window_start: '1999-03-01 10:00:00',
        window_end: '1999-03-01 10:01:00',
        campaign_id: 1,
        impressions: 1,
        spend: '0.200000',
        correction: false,
      },
      {
        window_start: '1999-03-01 10:00:00',
        window_end: '1999-03-01 10:01:00',
        campaign_id: 2,
        impressions: 2,
        spend: '0.600000',
        correction: false,
      },
    ],
  },
  branches: ({ late }) => (late === undefined ? [] : [late.to]),
  async compile(chosen, input: Relation, env: StepEnv): Promise<CompiledStep> {
    const windows = windowsOf(chosen)
    const { state, time, groups, columns, sql, branch } = await compileWindow({ ...chosen, windows }, input, env)
    checkNames(columns.map(({ name }) => ({ name, path: placeOf(name, chosen, env) })))
    return {
      output: { sql, columns },
      kind: 'set',
      ...(branch === undefined ? {} : { branches: [branch] }),
      lineage: { decides: { by: 'group', columns: union([time.from, ...groups.map(({ column }) => column.from)]) } },
      expressions: groups.flatMap(({ column, raw }) => (raw === undefined ? [] : [{ field: column.name, sql: raw }])),
      state: {
        tables: windowDdl(state),
        mark: (inputTable) => windowMark(state, inputTable),
        sweep: windowSweep(state),
        idle: { afterMs: chosen.idle, due: windowDue(state) },
        bytesPerRow: 40 + 16 * (state.groups.length + state.kept.length),
        bounded: true,
        keptMs: lengthOf(windows) + chosen.lateness,
      },
    }
  },
})

type Chosen = z.output<typeof options>

function windowsOf({ every, size, gap, cumulative }: Chosen): Windows {
  if (gap !== undefined) return { kind: 'session', gapMs: gap }
  if (cumulative !== undefined) return { kind: 'running', everyMs: cumulative.every, timezone: cumulative.timezone }
  return { kind: 'fixed', everyMs: every ?? 0, sizeMs: size ?? every ?? 0 }
}

/** How long a row is kept after its time. */
function lengthOf(windows: Windows): number {
  if (windows.kind === 'running') return 3 * DAY_MS
  return windows.kind === 'session' ? windows.gapMs : windows.sizeMs
}

function placeOf(name: string, { select }: Chosen, { path }: StepEnv): StepEnv['path'] {
  return name in select ? [...path, 'select', name] : [...path, 'by']
}
