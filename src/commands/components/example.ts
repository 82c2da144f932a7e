import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { findComponent } from '../../cli/find-component.ts'
import { exampleYaml } from '../../core/component-page.ts'
import { COMPONENT_KINDS, type ComponentKind } from '../../core/registry.ts'

interface ComponentExample {
  readonly schema_version: 1
  readonly kind: ComponentKind
  readonly type: string
  readonly example: Readonly<Record<string, unknown>>
  /** The section of a job file with it. */
  readonly yaml: string
}

export default class ComponentsExample extends BaseCommand {
  static override summary = 'A component as it stands in a job file, ready to be pasted.'
  static override description = 'The examples are run by the conformance suites, so they work.'
  static override examples = [
    { description: 'YAML on stdout', command: '<%= config.bin %> <%= command.id %> duckdb' },
    { description: 'The loader of that name', command: '<%= config.bin %> <%= command.id %> files --kind loader' },
  ]
  static override args = { type: Args.string({ required: true, description: 'Type of the component.' }) }
  static override flags = {
    kind: Flags.option({ options: COMPONENT_KINDS, description: 'Kind, where several share the type.' })(),
  }

  async run(): Promise<ComponentExample> {
    const { args, flags } = await this.parse(ComponentsExample)
    const { kind, type, definition } = await findComponent(await this.registry(), args.type, flags.kind)
    const yaml = exampleYaml(kind, type, definition)
    this.log(yaml.trimEnd())
    return { schema_version: 1, kind, type, example: definition.example, yaml }
  }
}
