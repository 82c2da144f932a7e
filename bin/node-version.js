// Runs on any Node that knows ES modules: no newer syntax here.
export const MINIMUM = [22, 22]

/** The message for a Node that is too old, or undefined. */
export function tooOld(version) {
  const [major, minor] = version.replace(/^v/, '').split('.').map(Number)
  if (major > MINIMUM[0] || (major === MINIMUM[0] && minor >= MINIMUM[1])) return undefined
  return `adflow needs Node >= ${MINIMUM.join('.')}, this is ${version}: install a newer Node, or run it inside the project with \`npx adflow\``
}
