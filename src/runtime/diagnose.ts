/** Asks components how their systems are: several at once, each within its time. */
import pLimit from 'p-limit'
import type { DiagnoseEnv, Diagnosis, Finding } from '../core/diagnosis.ts'
import type { ErrorCode } from '../core/errors.ts'
import { findingsAt } from '../core/findings.ts'

export interface Question {
  /** What is asked, where it cannot say so itself. */
  readonly place: string
  /** What an error is that is no AdflowError, and no answer in time. */
  readonly code: ErrorCode
  ask(env: Pick<DiagnoseEnv, 'signal' | 'answerMs'>): Diagnosis
}

/** Components that are asked at the same time. */
const AT_ONCE = 8
/** An answer that takes longer than this part of the whole time is none, so that it can still be said which. */
const ANSWER_PART = 0.6
/** For closing what was opened, after the time is over. */
const GRACE_MS = 500

/** The findings of each question, in the order of the questions. Never rejects. */
export function diagnoseAll(
  questions: readonly Question[],
  timeoutMs: number,
): Promise<readonly (readonly Finding[])[]> {
  const limit = pLimit(AT_ONCE)
  return Promise.all(questions.map((question) => limit(() => diagnoseOne(question, timeoutMs))))
}

async function diagnoseOne({ place, code, ask }: Question, timeoutMs: number): Promise<readonly Finding[]> {
  const controller = new AbortController()
  const found: Finding[] = []
  let where = place
  const work = async () => {
    const diagnosis = ask({ signal: controller.signal, answerMs: Math.floor(timeoutMs * ANSWER_PART) })
    where = diagnosis.place
    for await (const finding of diagnosis.findings) if (!controller.signal.aborted) found.push(finding)
  }
  const working = work().catch((error: unknown) => {
    if (!controller.signal.aborted) lose(found, findingsAt(where).failure('reachable', error, code))
  })
  if (await within(working, timeoutMs)) return found
  controller.abort()
  await within(working, GRACE_MS)
  const mend = 'check that the system runs and that the way to it is open; --timeout gives it more time'
  const asked = found.length === 0 ? '' : ' to what would have been asked next'
  lose(found, findingsAt(where).failed('reachable', code, `no answer within ${timeoutMs / 1000} s${asked}`, mend))
  return found
}

/** It was reached before, perhaps: what counts is that it is not now. */
function lose(found: Finding[], finding: Finding): void {
  const before = found.findIndex(({ check, status }) => check === 'reachable' && status === 'ok')
  if (before >= 0) found.splice(before, 1)
  found.push(finding)
}

/** false: the time was over first. */
async function within(work: Promise<void>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const time = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, milliseconds, false)
  })
  try {
    return await Promise.race([work.then(() => true), time])
  } finally {
    clearTimeout(timer)
  }
}
