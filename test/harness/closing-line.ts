import type { Reporter, TestModule, Vitest } from 'vitest/node'
import { NO_SERVER } from './servers/core/missing.ts'

/**
 * Prints `N passed, N failed` alone on the last line: what continuous integration reads. A file that fails to load fails,
 * and so does a test that is skipped, but for one that lacks a server on a developer's machine: those are counted apart,
 * with their reason. Where somebody asked for tests by name, the others are not counted.
 */
export default class ClosingLine implements Reporter {
  #byName = false

  onInit({ config }: Vitest): void {
    this.#byName = config.testNamePattern !== undefined
  }

  onTestRunEnd(modules: ReadonlyArray<TestModule>, errors: ReadonlyArray<unknown>): void {
    let passed = 0
    let failed = errors.length
    const missing: string[] = []
    for (const module of modules) {
      if (module.errors().length > 0) failed += 1
      for (const test of module.children.allTests()) {
        const result = test.result()
        if (result.state === 'passed') passed += 1
        else if (result.state === 'skipped' && lacksServer(result.note))
          missing.push(`${test.fullName}\n${result.note}`)
        else if (result.state !== 'skipped' || !this.#byName) failed += 1
      }
    }
    const skipped = missing.length === 0 ? '' : `, ${missing.length} skipped`
    const told = missing.map((reason) => `\nskipped: ${reason}\n`).join('')
    process.once('exit', () => process.stdout.write(`${told}\n${passed} passed, ${failed} failed${skipped}\n`))
  }
}

function lacksServer(note: string | undefined): note is string {
  return process.env['CI'] !== 'true' && note?.startsWith(NO_SERVER) === true
}
