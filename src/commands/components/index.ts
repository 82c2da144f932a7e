import { Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { table } from '../../cli/table.ts'
import { COMPONENT_KINDS, type ComponentKind } from '../../core/registry.ts'

interface ComponentList {
  readonly schema_version: 1
  readonly components: readonly { readonly kind: ComponentKind; readonly type: string; readonly summary: string }[]
}

export default class Components extends BaseCommand {
  static override summary = 'What jobs are made of: extractors, steps, loaders and consumers.'
  static override description =
    'Components are found by file name. `components describe` shows the options of one, `components example` how it stands in a job file.'
  static override examples = [
    { description: 'All of them', command: '<%= config.bin %> <%= command.id %>' },
    { description: 'Only the loaders, as JSON', command: '<%= config.bin %> <%= command.id %> --kind loader --json' },
  ]
  static override flags = {
    kind: Flags.option({ options: COMPONENT_KINDS, description: 'Only this kind.' })(),
  }

  async run(): Promise<ComponentList> {
    const { flags } = await this.parse(Components)
    const registry = await this.registry()
    const kinds = COMPONENT_KINDS.filter((kind) => flags.kind === undefined || kind === flags.kind)
    const components = await Promise.all(
      kinds.flatMap((kind) =>
        registry.types(kind).map(async (type) => ({ kind, type, summary: (await registry.get(kind, type)).summary })),
      ),
    )
    this.log(
      table(
        [{ name: 'kind' }, { name: 'type' }, { name: 'summary' }],
        components.map(({ kind, type, summary }) => [kind, type, summary]),
      ),
    )
    return { schema_version: 1, components }
  }
}
