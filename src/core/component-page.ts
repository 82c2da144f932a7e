/** Reference of a component, from its definition: what `adflow components` describes and docs/components/ holds. */

import { stringify } from 'yaml'
import { AdflowError } from './errors.ts'
import { extractBase } from './job/extract-keys.ts'
import { alternatives, type JsonSchema, jsonShape, strict } from './job/json-shape.ts'
import { distributeBase, loadBase } from './job/schema.ts'
import { COMPONENT_KINDS, type ComponentKind, type ComponentKinds, type Registry } from './registry.ts'

type Definition = ComponentKinds[ComponentKind]

export interface OptionRow {
  /** Name with the maps around it: `cursor.field`; `[]` for entries of a list, `*` for names that the user chooses. */
  readonly name: string
  readonly type: string
  readonly required: boolean
  /** As it would be written in YAML. */
  readonly preset: string | undefined
  readonly description: string
}

const BASE_KEYS: Readonly<Record<ComponentKind, readonly string[]>> = {
  extractor: ['type', ...Object.keys(extractBase)],
  loader: ['type', ...Object.keys(loadBase)],
  step: [],
  consumer: ['type', ...Object.keys(distributeBase)],
  transport: ['type'],
}

/** The options as a table. Throws UNEXPECTED with everything that its author has forgotten. */
export function optionRows(kind: ComponentKind, type: string, definition: Definition): OptionRow[] {
  const shape = jsonShape(strict(definition.options))
  const mistakes: string[] = []
  const rows: OptionRow[] = []
  for (const key of Object.keys(shape.properties ?? {}))
    if (BASE_KEYS[kind].includes(key)) mistakes.push(`the option \`${key}\` is taken by the job file itself`)
  if (shape.properties === undefined && shape.description === undefined)
    mistakes.push('the options have no description')
  if (shape.properties === undefined) rows.push(row(kind === 'step' ? type : 'options', shape, true, shape))
  collect(shape, '', shape, rows, mistakes)
  for (const { name, description } of rows)
    if (description === '') mistakes.push(`the option \`${name}\` has no description`)
  if (mistakes.length > 0)
    throw new AdflowError('UNEXPECTED', `the ${kind} ${type} is not documented: ${[...new Set(mistakes)].join('; ')}`, {
      hint: 'give each option a .describe(), and use z.strictObject for maps',
    })
  return rows
}

function collect(schema: JsonSchema, prefix: string, root: JsonSchema, rows: OptionRow[], mistakes: string[]): void {
  for (const each of alternatives(schema, root)) {
    if (each.type === 'object' && each.properties !== undefined && each.additionalProperties === undefined)
      mistakes.push(`${prefix === '' ? 'the options take' : `\`${prefix}\` takes`} unknown keys in silence`)
    for (const [key, option] of Object.entries(each.properties ?? {})) {
      const name = prefix === '' ? key : `${prefix}.${key}`
      const found = rows.findIndex((other) => other.name === name)
      const made = row(name, option, each.required?.includes(key) ?? false, root)
      if (found === -1) rows.push(made)
      collect(option, name, root, rows, mistakes)
    }
    if (typeof each.additionalProperties === 'object')
      collect(each.additionalProperties, join(prefix, '*'), root, rows, mistakes)
    for (const item of [each.items ?? []].flat()) collect(item, `${prefix}[]`, root, rows, mistakes)
  }
}

function join(prefix: string, name: string): string {
  return prefix === '' ? name : `${prefix}.${name}`
}

function row(name: string, schema: JsonSchema, required: boolean, root: JsonSchema): OptionRow {
  const preset = schema.default === undefined ? undefined : inline(schema.default)
  return { name, type: typeText(schema, root), required, preset, description: schema.description ?? '' }
}

/** `text`, `whole number`, `one of …`, `list of text`, `map of text` … */
function typeText(schema: JsonSchema, root: JsonSchema): string {
  if (schema.const !== undefined) return `\`${inline(schema.const)}\``
  if (schema.enum !== undefined) return schema.enum.map((value) => `\`${inline(value)}\``).join(', ')
  const choices = [...(schema.anyOf ?? []), ...(schema.oneOf ?? [])]
  if (choices.length > 0) return [...new Set(choices.map((choice) => typeText(choice, root)))].join(' or ')
  if (schema.$ref !== undefined) return 'the same again'
  if (schema.type === 'array') {
    const items = [schema.items ?? []].flat().map((item) => typeText(item, root))
    return items.length === 0 ? 'list' : `list of ${items.join(', ')}`
  }
  if (schema.type === 'object') {
    const named = schema.properties !== undefined || typeof schema.additionalProperties !== 'object'
    return named ? 'map' : `map of ${typeText(schema.additionalProperties as JsonSchema, root)}`
  }
  const words: Readonly<Record<string, string>> = {
    string: 'text',
    number: 'number',
    integer: 'whole number',
    boolean: '`true`, `false`',
  }
  const [example] = Array.isArray(schema['examples']) ? schema['examples'] : []
  const like = example === undefined ? '' : ` such as \`${example}\``
  return `${words[schema.type ?? ''] ?? 'any value'}${like}`
}

function inline(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

const SECTION: Readonly<Record<ComponentKind, string>> = {
  extractor: 'extract',
  step: 'transform',
  loader: 'load',
  consumer: 'distribute',
  transport: 'lineage',
}

/** The example as it stands in a job file. */
export function exampleYaml(kind: ComponentKind, type: string, definition: Definition): string {
  const named = { type, ...definition.example }
  const entry =
    kind === 'step'
      ? [{ [type]: definition.example }]
      : { [kind === 'transport' ? 'transport' : `my_${type.replaceAll('-', '_')}`]: named }
  return stringify({ [SECTION[kind]]: entry }, { lineWidth: 0 })
}

/** The list of all pages: docs/components/README.md. */
export async function componentIndex(registry: Registry): Promise<string> {
  const parts = ['<!-- Generated from src/ by `npm run generate`. Do not edit. -->\n# Components\n']
  for (const kind of COMPONENT_KINDS) {
    const types = registry.types(kind)
    const lines = await Promise.all(
      types.map(async (type) => `- [\`${type}\`](${kind}-${type}.md): ${(await registry.get(kind, type)).summary}`),
    )
    if (lines.length > 0) parts.push(`## \`${SECTION[kind]}\`\n\n${lines.join('\n')}\n`)
  }
  return parts.join('\n')
}

/** The page in docs/components/. */
export function componentPage(kind: ComponentKind, type: string, definition: Definition): string {
  const rows = optionRows(kind, type, definition)
  const table = rows.map(
    ({ name, type: text, required, preset, description }) =>
      `| \`${name}\` | ${cell(text)} | ${required ? 'required' : preset === undefined ? '' : `\`${cell(preset)}\``} | ${cell(description)} |`,
  )
  const own = rows.some(({ name }) => name === 'id')
  const id =
    kind === 'step' && !own
      ? '\nBeside the verb a step may have an `id`: its name in loaders, lineage and tests.\n'
      : ''
  return `<!-- Generated from src/ by \`npm run generate\`. Do not edit. -->
# ${kind} \`${type}\`

${definition.summary}
${definition.description === undefined ? '' : `\n${definition.description.trim()}\n`}
## Options

| option | type | default | description |
|---|---|---|---|
${table.join('\n')}
${id}
## Example

\`\`\`yaml
${exampleYaml(kind, type, definition).trimEnd()}
\`\`\`
`
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replace(/\s*\n\s*/g, ' ')
}
