/** Error budgets: how much of what is read may be rejected, over a run or over a sliding time. */
import { AdflowError } from '../core/errors.ts'
import type { Budget, Job } from '../core/job/job.ts'
import type { BatchCounts } from '../lineage/events.ts'
import type { GroupSaver } from './group-saver.ts'

/** [milliseconds since the epoch, read, rejected] of one batch. */
type Charge = readonly [at: number, read: number, rejected: number]

const MEMORY = 'budget'

/** What batches have used of a sliding budget is kept in so many parts of its time, however many batches there are. */
const PARTS = 1000

export class Budgets {
  readonly #budgets: readonly Budget[]
  readonly #warn: (text: string) => void
  #run: Charge = [0, 0, 0]
  readonly #warned = new Set<Budget>()
  #charges: Charge[]

  constructor(job: Job, saver: Pick<GroupSaver, 'state'>, warn: (text: string) => void) {
    this.#budgets = job.budgets
    this.#warn = warn
    this.#charges = [...((saver.state.extra?.[MEMORY] ?? []) as Charge[])]
  }

  get active(): boolean {
    return this.#budgets.length > 0
  }

  /** @throws AdflowError DATA_REJECTED when this batch uses a budget up; it is not loaded then. */
  charge({ read, quarantined }: BatchCounts): void {
    if (!this.active) return
    const rejected = Object.values(quarantined).reduce((total, count) => total + count, 0)
    const now = Date.now()
    this.#run = [now, this.#run[1] + read, this.#run[2] + rejected]
    const times = this.#budgets.flatMap(({ per }) => (per === 'run' ? [] : [per]))
    if (times.length > 0) this.#remember([now, read, rejected], Math.min(...times) / PARTS, Math.max(...times))
    for (const budget of this.#budgets) this.#check(budget, now)
  }

  #remember(charge: Charge, part: number, longest: number): void {
    const [now, read, rejected] = charge
    const last = this.#charges.at(-1)
    if (last !== undefined && Math.floor(last[0] / part) === Math.floor(now / part))
      this.#charges[this.#charges.length - 1] = [now, last[1] + read, last[2] + rejected]
    else this.#charges.push(charge)
    this.#charges = this.#charges.filter(([at]) => at > now - longest)
  }

  /** What later runs must know. */
  memory(): Record<string, unknown> {
    return this.#budgets.some(({ per }) => per !== 'run') ? { [MEMORY]: this.#charges } : {}
  }

  #check(budget: Budget, now: number): void {
    const { per } = budget
    const charges = per === 'run' ? [this.#run] : this.#charges.filter(([at]) => at > now - per)
    const read = charges.reduce((total, [, count]) => total + count, 0)
    const rejected = charges.reduce((total, [, , count]) => total + count, 0)
    if (read < budget.minRows || rejected <= budget.ratio * read) return
    const over = per === 'run' ? 'this run' : `the last ${per / 1000} s`
    const text = `the error budget is used up: ${rejected} of ${read} records of ${over} were rejected, ${budget.ratio} are allowed`
    if (budget.onExhausted === 'fail')
      throw new AdflowError('DATA_REJECTED', text, {
        hint: 'see `adflow query "select rule, count(*) from quarantine group by 1"`; the batch that crossed the line was not loaded',
      })
    if (this.#warned.has(budget)) return
    this.#warned.add(budget)
    this.#warn(text)
  }
}
