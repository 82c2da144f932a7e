import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { findComponent } from '../../cli/find-component.ts'
import { table } from '../../cli/table.ts'
import { exampleYaml, type OptionRow, optionRows } from '../../core/component-page.ts'
import { type JsonSchema, jsonShape, strict } from '../../core/job/json-shape.ts'
import { COMPONENT_KINDS, type ComponentKind } from '../../core/registry.ts'

interface ComponentDescription {
  readonly schema_version: 1
  readonly kind: ComponentKind
  readonly type: string
  readonly summary: string
  readonly description: string | null
  readonly options: readonly OptionRow[]
  /** JSON Schema (draft 7) of the options as they stand in a job file. */
  readonly json_schema: JsonSchema
  readonly example: Readonly<Record<string, unknown>>
}

const MAX_DESCRIPTION = 76

export default class ComponentsDescribe extends BaseCommand {
  static override summary = 'What a component does, and its options with types and defaults.'
  static override description = '`--json` adds the JSON Schema of the options.'
  static override examples = [
    { description: 'A step', command: '<%= config.bin %> <%= command.id %> dedupe' },
    {
      description: 'Where an extractor and a loader share a name',
      command: '<%= config.bin %> <%= command.id %> files --kind loader',
    },
  ]
  static override args = { type: Args.string({ required: true, description: 'Type of the component.' }) }
  static override flags = {
    kind: Flags.option({ options: COMPONENT_KINDS, description: 'Kind, where several share the type.' })(),
  }

  async run(): Promise<ComponentDescription> {
    const { args, flags } = await this.parse(ComponentsDescribe)
    const { kind, type, definition } = await findComponent(await this.registry(), args.type, flags.kind)
    const options = optionRows(kind, type, definition)
    const rows = options.map(({ name, type: text, required, preset, description }) => [
      name,
      wrap(text.replaceAll('`', ''), 28),
      required ? 'required' : wrap(preset ?? '', 16),
      wrap(description, MAX_DESCRIPTION),
    ])
    this.log(`${kind} ${type}: ${definition.summary}\n`)
    if (definition.description !== undefined) this.log(`${definition.description.trim()}\n`)
    this.log(table([{ name: 'option' }, { name: 'type' }, { name: 'default' }, { name: 'description' }], rows))
    this.log(`\n${exampleYaml(kind, type, definition).trimEnd()}`)
    return {
      schema_version: 1,
      kind,
      type,
      summary: definition.summary,
      description: definition.description ?? null,
      options,
      json_schema: jsonShape(strict(definition.options)),
      example: definition.example,
    }
  }
}

/** Lines of at most `width` characters, broken between words. */
function wrap(text: string, width: number): string {
  const lines: string[] = []
  for (const word of text.split(/\s+/)) {
    const last = lines.at(-1)
    if (last !== undefined && last.length + 1 + word.length <= width) lines[lines.length - 1] = `${last} ${word}`
    else lines.push(word)
  }
  return lines.join('\n')
}
