/** Positions of lanes whose source cannot be read again: where the source goes on there stands in the mark, and in the ledger. */
import { parseStagedMark } from '../clients/staging/mark.ts'
import { laneFolder } from '../clients/staging/segment.ts'
import { stagedSegments } from '../clients/staging/staged-lane.ts'
import type { Position } from '../core/contracts.ts'
import { AdflowError } from '../core/errors.ts'
import { comparePositions, START } from '../core/positions.ts'
import { literal } from '../engine/sql-text.ts'
import type { LaneCheckpoint } from './checkpoint-slot.ts'
import { ledgerOf, withStateEngine } from './orphans.ts'
import type { StateDir } from './state-dir.ts'

type Lanes = Readonly<Record<string, LaneCheckpoint>>

/** Its bytes are, or were, staged. */
export function isStaged(position: LaneCheckpoint | undefined): boolean {
  return parseStagedMark(position?.mark) !== undefined
}

/** @throws AdflowError USAGE: what is fetched again has other edges, so that a store could not refuse what it has of it */
export async function requireStagedBytes(
  state: StateDir,
  source: string,
  lane: string,
  { at, to }: { readonly at: Position; readonly to: Position },
): Promise<void> {
  if (comparePositions(to, at) >= 0) return
  const segments = await stagedSegments(laneFolder(state.stagedOf(source), lane))
  let reach = Number(to)
  for (const segment of segments) if (segment.from <= reach && segment.to > reach) reach = segment.to
  if (reach >= Number(at)) return
  throw new AdflowError(
    'USAGE',
    `the bytes of ${lane} from ${to} on are loaded, and not staged any more: the source may give other bytes now, which no store could know`,
    {
      hint: 'with --reload stores load what the source still has, beside what they have: empty them first, or merge by key',
    },
  )
}

/** The positions with the cursors that the ledger knows for them; only lanes of staged sources have such. */
export async function withCursors(
  state: StateDir,
  source: string,
  lanes: Lanes,
): Promise<Record<string, LaneCheckpoint>> {
  const wanted = Object.entries(lanes).filter(([, { at }]) => at !== START)
  if (wanted.length === 0) return { ...lanes }
  const ledger = await ledgerOf(state)
  const rows = await withStateEngine(state, (session) =>
    session.rows(
      `SELECT lane, range_to::VARCHAR AS at, arg_max(mark, seq) AS mark FROM (${ledger}) WHERE type = 'batch_closed' AND source = ${literal(source)} AND mark IS NOT NULL GROUP BY ALL`,
    ),
  )
  const marks = new Map(rows.map((row) => [JSON.stringify([row['lane'], row['at']]), String(row['mark'])]))
  return Object.fromEntries(
    Object.entries(lanes).map(([lane, position]) => {
      const mark = marks.get(JSON.stringify([lane, position.at]))
      return [lane, parseStagedMark(mark) === undefined || mark === undefined ? position : { ...position, mark }]
    }),
  )
}
