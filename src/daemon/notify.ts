/** What systemd is told, where it asks: READY, STOPPING, and a sign of life for each round of the scheduler. */
import { spawn } from 'node:child_process'
import type { Logger } from 'pino'

export interface Notifier {
  send(...states: readonly string[]): void
  /** Milliseconds within which a sign of life is wanted; undefined: nobody watches. */
  readonly watchdogMs: number | undefined
}

/**
 * Node has no datagram sockets of the unix kind, and a native module for one line of text is not worth its weight: systemd's own
 * program sends it. It is another process, hence `NotifyAccess=all` in the unit.
 */
export function systemdNotifier(env: NodeJS.ProcessEnv, log: Logger): Notifier {
  const watched = Number(env['WATCHDOG_USEC'])
  const watchdogMs = Number.isFinite(watched) && watched > 0 ? watched / 1000 : undefined
  if ((env['NOTIFY_SOCKET'] ?? '') === '') return { send: () => undefined, watchdogMs: undefined }
  let failed = false
  const send = (...states: readonly string[]) => {
    const child = spawn('systemd-notify', [...states], { env, stdio: 'ignore' })
    child.on('error', (error) => {
      if (!failed) log.error({ err: error }, 'cannot run systemd-notify: systemd will take this daemon for dead')
      failed = true
    })
  }
  return { send, watchdogMs }
}
