/** How CSV is written, as every source of it is told. */
import { z } from 'zod'

/** The scanners look for single bytes. */
const oneByte = z.string().regex(/^[^\r\n\0\u0080-\uffff]$/, 'expected one ASCII character, no line end')

export const csvShape = {
  delimiter: oneByte.default(',').describe('Character between fields.'),
  quote: z
    .union([oneByte, z.literal('')])
    .default('"')
    .describe('Character around fields that hold delimiters or line ends; doubled inside. Empty: no quoting.'),
} as const

export const columnNames = z.array(z.string().min(1)).min(1)

/** Of a source whose texts may begin with a record of names; `first` is that record in words. */
export function csvHeader(first: string) {
  return z
    .union([z.boolean(), columnNames])
    .default(true)
    .describe(`true: ${first} names the columns. false: they are \`column0\`, \`column1\` … A list: these names.`)
}
