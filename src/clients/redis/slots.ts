/** Hash slots of a cluster: of keys, in the engine; and for each slot a short tag whose keys lie in it. */

const SLOTS = 16_384
const POLYNOMIAL = 0x1021

let tags: readonly string[] | undefined

/** `{tag}` lies in the slot. The same for ever: it is the first number, in base 36, that does. */
export function tagOf(slot: number): string {
  tags ??= makeTags()
  return tags[slot] ?? ''
}

function makeTags(): readonly string[] {
  const found: string[] = []
  for (let number = 0, missing = SLOTS; missing > 0; number += 1) {
    const tag = number.toString(36)
    const slot = slotOf(tag)
    if (found[slot] !== undefined) continue
    found[slot] = tag
    missing -= 1
  }
  return found
}

export function slotOf(key: string): number {
  const hashed = /^[^{]*\{([^}]+)\}/.exec(key)?.[1] ?? key
  let crc = 0
  for (const byte of Buffer.from(hashed)) for (const half of [byte >> 4, byte & 15]) crc = taken(crc, half)
  return crc % SLOTS
}

/** CRC-16/XMODEM, four bits at a time: of those the polynomial makes a product without carries. */
function taken(crc: number, half: number): number {
  return ((crc & 0xfff) << 4) ^ (((crc >> 12) ^ half) * POLYNOMIAL)
}

/** SELECT of k and its slot, by the arithmetic of taken(). `keys`: SELECT of k. */
export function slotsSql(keys: string): string {
  const halves = "list_transform(range(1, length(h) + 1), lambda i: (strpos('0123456789ABCDEF', h[i]) - 1)::INTEGER)"
  const crc = `list_reduce(${halves}, lambda crc, half: xor((crc & 4095) << 4, xor(crc >> 12, half) * ${POLYNOMIAL}), 0::INTEGER)`
  const tag = `regexp_extract(k, '^[^{]*\\{([^}]+)\\}', 1)`
  return `SELECT k, coalesce(${crc}, 0) % ${SLOTS} AS slot FROM (SELECT k, hex(encode(CASE WHEN ${tag} = '' THEN k ELSE ${tag} END)) AS h FROM (${keys}))`
}
