/** Values that must never be printed. They are registered when a job file is read; loggers and errors pass through redact(). */

const SECRET_NAME = /(PASSWORD|SECRET|TOKEN|KEY|CREDENTIAL)/i
/** Shorter values would blank out ordinary words. */
const MIN_LENGTH = 4

const secrets = new Set<string>()
let longestFirst: readonly string[] = []

/** true: a variable of this name holds a secret. */
export function isSecretName(variable: string): boolean {
  return SECRET_NAME.test(variable)
}

/** Remembers the value, also as it looks inside URLs and JSON strings. */
export function registerSecret(value: string): void {
  for (const form of [value, encodeURIComponent(value.toWellFormed()), JSON.stringify(value).slice(1, -1)])
    if (form.length >= MIN_LENGTH) secrets.add(form)
  // The longest first: a secret that contains another must not leave its ends behind.
  longestFirst = [...secrets].sort((a, b) => b.length - a.length)
}

/** The same for every text inside a value. */
export function redactAll(value: unknown): unknown {
  if (typeof value === 'string') return redact(value)
  if (Array.isArray(value)) return value.map(redactAll)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, redactAll(inner)]))
}

/** The text with every registered secret replaced by `***`. */
export function redact(text: string): string {
  let clean = text
  for (const secret of longestFirst) if (clean.includes(secret)) clean = clean.replaceAll(secret, '***')
  return clean
}
