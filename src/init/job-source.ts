/** The source of a drafted job as it stands in the job file: secrets are variables, and paths are where the job finds them. */
export interface JobSource {
  readonly options: Readonly<Record<string, unknown>>
  /** Variables that must be set before the job runs. */
  readonly variables: readonly string[]
}

const SECRET =
  /(?:^|_)(?:password|passphrase|secret|token|client_secret|secret_access_key|session_token|authorization)$/i

/** `name`: of the job; its variables begin with it. A run without one of them fails at the login, and says so. */
export function withoutSecrets(options: Readonly<Record<string, unknown>>, name: string): JobSource {
  const variables: string[] = []
  const replaced = (value: unknown, key: string): unknown => {
    if (Array.isArray(value)) return value.map((one) => replaced(one, key))
    if (typeof value === 'object' && value !== null)
      return Object.fromEntries(Object.entries(value).map(([inner, one]) => [inner, replaced(one, inner)]))
    if (typeof value !== 'string') return value
    if (!SECRET.test(key)) return value.replaceAll('${', () => '$${')
    const variable = `${name}_${key}`.toUpperCase().replace(/[^A-Z0-9_]/g, '_')
    if (!variables.includes(variable)) variables.push(variable)
    return `\${${variable}:-set ${variable}}`
  }
  return { options: replaced(options, '') as Record<string, unknown>, variables }
}
