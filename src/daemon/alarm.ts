/** A wait that somebody may end early. */
export class Alarm {
  #wake: (() => void) | undefined

  /** Resolves after so long, or when it is rung. */
  pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  ring(): void {
    this.#wake?.()
  }
}
