/** The request of a pass: the one of the job, with what is known of where it goes on filled in. */

export interface RequestValues {
  readonly position: string | undefined
  readonly token: string | undefined
}

const PLACEHOLDER = /\{(position|token)\}/g

/** Values of keys whose placeholder has no value are left out, with the key. */
export function filledRequest(template: unknown, values: RequestValues): unknown {
  if (typeof template === 'string') return filledText(template, values)
  if (Array.isArray(template))
    return template.map((one) => filledRequest(one, values)).filter((one) => one !== undefined)
  if (typeof template !== 'object' || template === null) return template
  const filled = Object.entries(template).map(([key, value]) => [key, filledRequest(value, values)] as const)
  return Object.fromEntries(filled.filter(([, value]) => value !== undefined))
}

/** Whether it stands anywhere in the request. */
export function hasPlaceholder(template: unknown, name: keyof RequestValues): boolean {
  return JSON.stringify(template ?? null).includes(`{${name}}`)
}

function filledText(text: string, values: RequestValues): string | undefined {
  const names = [...text.matchAll(PLACEHOLDER)].map(([, name]) => name as keyof RequestValues)
  if (names.some((name) => values[name] === undefined)) return undefined
  return text.replaceAll(PLACEHOLDER, (_, name: keyof RequestValues) => values[name] ?? '')
}
