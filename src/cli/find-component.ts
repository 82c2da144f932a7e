/** Which component a command line means: a type that stands in one kind only needs no --kind. */
import { AdflowError } from '../core/errors.ts'
import { didYouMean } from '../core/job/suggest.ts'
import { COMPONENT_KINDS, type ComponentKind, type ComponentKinds, type Registry } from '../core/registry.ts'

export interface FoundComponent {
  readonly kind: ComponentKind
  readonly type: string
  readonly definition: ComponentKinds[ComponentKind]
}

/** @throws AdflowError USAGE where there is none of that type, or several and no kind is given. */
export async function findComponent(registry: Registry, type: string, kind?: ComponentKind): Promise<FoundComponent> {
  if (kind !== undefined) return { kind, type, definition: await registry.get(kind, type) }
  const [only, ...others] = COMPONENT_KINDS.filter((each) => registry.types(each).includes(type))
  if (only === undefined) {
    const all = COMPONENT_KINDS.flatMap((each) => registry.types(each))
    throw new AdflowError('USAGE', `there is no component of the type \`${type}\``, {
      hint: didYouMean(type, all) ?? 'list them with `adflow components`',
    })
  }
  if (others.length > 0)
    throw new AdflowError('USAGE', `\`${type}\` is the type of several components: ${[only, ...others].join(', ')}`, {
      hint: `say which: --kind ${others.at(-1)}`,
    })
  return { kind: only, type, definition: await registry.get(only, type) }
}
