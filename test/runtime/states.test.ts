import { describe, expect, expectTypeOf, test } from 'vitest'
import {
  BatchState,
  INITIAL_STATE,
  isTerminal,
  move,
  type NextState,
  STATES,
  type State,
  statesMermaid,
  TRANSITIONS,
} from '../../src/runtime/states.ts'

const next = (state: State): readonly State[] => TRANSITIONS[state]

describe('the table', () => {
  test('leads only to states', () => {
    for (const state of STATES) expect(STATES).toEqual(expect.arrayContaining([...next(state)]))
  })

  test('reaches every state from the first', () => {
    const reached = new Set<State>([INITIAL_STATE])
    for (const state of reached) for (const to of next(state)) reached.add(to)
    expect([...reached].sort()).toEqual([...STATES].sort())
  })

  test('has done and abandoned as its only ends, and every state can reach one', () => {
    expect(STATES.filter(isTerminal)).toEqual(['done', 'abandoned'])
    const ending = new Set<State>(['done', 'abandoned'])
    for (let size = 0; size !== ending.size; ) {
      size = ending.size
      for (const state of STATES) if (next(state).some((to) => ending.has(to))) ending.add(state)
    }
    expect([...ending].sort()).toEqual([...STATES].sort())
  })
})

test('every move that the table does not list throws and says what may follow', () => {
  let refused = 0
  for (const from of STATES)
    for (const to of STATES) {
      if (next(from).includes(to)) expect(move<State, State>(from, to)).toBe(to)
      else {
        refused += 1
        expect(() => move<State, State>(from, to)).toThrow(`from ${from} to ${to}: `)
      }
    }
  expect(refused).toBe(STATES.length ** 2 - STATES.flatMap(next).length)
  expect(() => move<State, State>('storage.running', 'done')).toThrow('followed by storage.completed, storage.failed')
  expect(() => move<State, State>('done', 'abandoned')).toThrow('nothing may follow it')
})

test('an illegal move from a known state does not compile', () => {
  expectTypeOf<NextState<'storage.running'>>().toEqualTypeOf<'storage.completed' | 'storage.failed'>()
  expectTypeOf<NextState<'done'>>().toEqualTypeOf<never>()
  // @ts-expect-error: a batch that is being stored is not done
  expect(() => move('storage.running', 'done')).toThrow()
})

describe('a batch', () => {
  test('goes the usual way from collecting to done, and reports each move', () => {
    const moves: string[] = []
    const batch = new BatchState('t1', (to, from) => moves.push(`${from} → ${to}`))
    batch.move('validation.pending', 'validation.running', 'validation.partial', 'transformation.pending')
    batch.move('transformation.running', 'transformation.completed', 'storage.pending', 'storage.running')
    batch.move('storage.failed', 'storage.retry', 'storage.running', 'storage.completed', 'done')
    expect(batch.state).toBe('done')
    expect(moves).toHaveLength(13)
    expect(moves[0]).toBe('ingestion.collecting → validation.pending')
  })

  test('stays where it is at an illegal move, which names the batch and is not reported', () => {
    const moves: string[] = []
    const batch = new BatchState('t2', (to) => moves.push(to))
    expect(() => batch.move('validation.pending', 'done')).toThrow('batch t2 from validation.pending to done')
    expect(batch.state).toBe('validation.pending')
    expect(moves).toEqual(['validation.pending'])
  })
})

test('the diagram shows every state and every move', () => {
  const diagram = statesMermaid()
  expect(diagram.startsWith('stateDiagram-v2\n')).toBe(true)
  expect(diagram.match(/ --> /g)).toHaveLength(STATES.flatMap(next).length + 3)
  expect(diagram).toContain('  storage_retry --> storage_running\n')
  expect(diagram).toContain('  done --> [*]\n')
})
