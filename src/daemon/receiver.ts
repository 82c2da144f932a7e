/** Lets a daemon that leads take pushes for its jobs. What keeps it from that costs no run anything: it is told, and tried again. */
import type { Job } from '../core/job/job.ts'
import { Gateway, type GatewayOptions } from '../gateway/gateway.ts'
import { pushSourcesOf } from '../gateway/push-source.ts'

export interface ReceiverOptions extends GatewayOptions {
  readonly stateDir: string
}

export class Receiver {
  readonly #options: ReceiverOptions
  #gateway: Gateway | undefined
  #told: string | undefined
  #seen: readonly Job[] = []

  constructor(options: ReceiverOptions) {
    this.#options = options
  }

  /** Called again and again: listens where it does not yet, and takes up jobs that have changed. */
  async follow(jobs: readonly Job[]): Promise<void> {
    const { log, stateDir } = this.#options
    const before = this.#gateway
    try {
      this.#gateway ??= await this.#listen()
    } catch (error) {
      // The daemon before this one may still have the port.
      const reason = String(error)
      if (reason !== this.#told) log.error({ err: error }, `takes no pushes: ${reason}`)
      this.#told = reason
      return
    }
    if (before !== undefined && sameJobs(jobs, this.#seen)) return
    this.#seen = jobs
    await this.#gateway.configure(jobs.flatMap((job) => pushSourcesOf(job, stateDir)))
  }

  /** What is under way is answered first. */
  async close(): Promise<void> {
    const gateway = this.#gateway
    this.#gateway = undefined
    await gateway?.close()
  }

  async #listen(): Promise<Gateway> {
    const gateway = await Gateway.start(this.#options, [])
    this.#options.log.info(`takes pushes at ${gateway.url}`)
    return gateway
  }
}

function sameJobs(some: readonly Job[], others: readonly Job[]): boolean {
  return some.length === others.length && some.every((job, index) => job === others[index])
}
