/** Quoting. Every name and value that reaches SQL text goes through here. */

export function ident(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

export function literal(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

export function list(values: readonly string[]): string {
  return `[${values.map(literal).join(', ')}]`
}
