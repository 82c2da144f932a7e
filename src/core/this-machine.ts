/** Hosts whose traffic leaves no cable. */

/** As `hostname` of a URL has it. */
export function isThisMachine(host: string): boolean {
  return host === '' || host === 'localhost' || host === '[::1]' || /^127\./.test(host)
}
