/** What is on this machine: hosts whose traffic leaves no cable, and processes whose locks are seen. */
import { readFileSync, readlinkSync, realpathSync } from 'node:fs'

/** As `hostname` of a URL has it. */
export function isThisMachine(host: string): boolean {
  return host === '' || host === 'localhost' || host === '[::1]' || /^127\./.test(host)
}

/** Boot, network namespace and real path of a folder: where two processes find the same, the socket by which one holds the folder is
 *  seen by the other. null: this system does not tell. */
export function machineOf(folder: string): string | null {
  try {
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${readlinkSync('/proc/self/ns/net')} ${realpathSync(folder)}`
  } catch {
    return null
  }
}
