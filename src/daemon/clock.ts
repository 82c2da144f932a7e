/** Time, so that tests can move it. */

export interface Clock {
  /** Milliseconds since the epoch. It names scheduled times and may jump. */
  wall(): number
  /** Milliseconds since some instant. It never jumps: what lasts is measured by it. */
  steady(): number
}

export const SYSTEM_CLOCK: Clock = { wall: () => Date.now(), steady: () => performance.now() }
