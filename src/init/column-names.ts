/** Names of fields as names of columns: lower_snake, unique, free of what SQL keeps for itself. */

/** `reserved`: words of SQL that cannot stand as a column without quotes. */
export function columnNames(fields: readonly string[], reserved: ReadonlySet<string>): string[] {
  const taken = new Set<string>()
  return fields.map((field, index) => {
    const base = free(snake(field) || `column_${index + 1}`, reserved)
    let name = base
    for (let n = 2; taken.has(name); n += 1) name = `${base}_${n}`
    taken.add(name)
    return name
  })
}

/** `Cost Total $` → cost_total, `eventId` → event_id, `HTTPStatus` → http_status, `2024` → n_2024. */
export function snake(field: string): string {
  const name = field
    .normalize('NFC')
    .replaceAll(/(\p{Ll}|\p{N})(\p{Lu})/gu, '$1_$2')
    .replaceAll(/(\p{Lu})(\p{Lu}\p{Ll})/gu, '$1_$2')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{M}\p{N}]+/gu, '_')
    .replaceAll(/^_+|_+$/g, '')
  return /^\p{N}/u.test(name) ? `n_${name}` : name
}

function free(name: string, reserved: ReadonlySet<string>): string {
  return reserved.has(name) ? `${name}_` : name
}
