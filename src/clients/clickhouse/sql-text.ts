/** Quoting for ClickHouse, where a backslash escapes inside quotes. Every name and value that reaches its SQL text goes through here. */

export function ident(name: string): string {
  return `\`${escaped(name).replaceAll('`', '\\`')}\``
}

export function literal(text: string): string {
  return `'${escaped(text).replaceAll("'", "\\'")}'`
}

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\')
}
