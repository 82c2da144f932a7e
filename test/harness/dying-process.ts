/**
 * A process that dies at its n-th durable step: from there on every change of a file and every SQL statement fails, cleaning
 * up included, so that the disk looks as after a kill before step n. For the places between two steps that a real
 * SIGKILL hits only by luck.
 */
import fs from 'node:fs/promises'
import { syncBuiltinESMExports } from 'node:module'
import type { EngineConnection, LoadBatch } from '../../src/core/contracts.ts'

/** Everything by which the code under test can change a file. */
const CHANGES = ['open', 'mkdir', 'rename', 'rm', 'unlink', 'copyFile', 'writeFile'] as const

class ProcessDied extends Error {
  override readonly name = 'ProcessDied'
}

export class DyingProcess {
  steps = 0
  readonly #lastStep: number

  /** `lastStep`: steps that still happen. */
  constructor(lastStep: number) {
    this.#lastStep = lastStep
  }

  get dead(): boolean {
    return this.steps > this.#lastStep
  }

  step(): void {
    this.steps += 1
    if (this.dead) throw new ProcessDied(`dead since step ${this.#lastStep}`)
  }

  engine(engine: EngineConnection): EngineConnection {
    return {
      run: async (sql) => {
        this.step()
        await engine.run(sql)
      },
      rows: async (sql) => {
        this.step()
        return engine.rows(sql)
      },
    }
  }

  /** The batch with an engine that dies. */
  batch(batch: LoadBatch): LoadBatch {
    return {
      ...batch,
      engine: this.engine(batch.engine),
      encode: async (format, options) => {
        this.step()
        return batch.encode(format, options)
      },
    }
  }

  /** Runs `work` with a file system that dies. True: it went through. */
  async run(work: () => Promise<unknown>): Promise<boolean> {
    const originals = CHANGES.map((name) => [name, fs[name]] as const)
    for (const [name, original] of originals)
      Object.assign(fs, {
        [name]: async (...args: unknown[]) => {
          this.step()
          return Reflect.apply(original, fs, args)
        },
      })
    syncBuiltinESMExports()
    try {
      await work()
      return true
    } catch (error) {
      if (this.dead) return false
      throw error
    } finally {
      Object.assign(fs, Object.fromEntries(originals))
      syncBuiltinESMExports()
    }
  }
}
