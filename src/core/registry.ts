/** Finds components by file name: src/extractors/files.ts is the extractor `files`. Nobody keeps a list. */
import { readdir } from 'node:fs/promises'
import { basename, extname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import type { ConsumerDefinition } from './consumer.ts'
import type { ExtractorDefinition, LoaderDefinition, StepDefinition } from './definitions.ts'
import { AdflowError } from './errors.ts'
import { didYouMean } from './job/suggest.ts'
import type { TransportDefinition } from './transport.ts'

export interface ComponentKinds {
  extractor: ExtractorDefinition
  step: StepDefinition
  loader: LoaderDefinition
  consumer: ConsumerDefinition
  transport: TransportDefinition
}

export type ComponentKind = keyof ComponentKinds

/** Folder of each kind, beside the folder `core`. */
const FOLDERS: Readonly<Record<ComponentKind, string>> = {
  extractor: 'extractors',
  step: 'transforms',
  loader: 'loaders',
  consumer: 'consumers',
  transport: 'transports',
}

export const COMPONENT_KINDS = Object.keys(FOLDERS) as readonly ComponentKind[]

export interface Registry {
  /** Types of a kind, sorted. Imports nothing. */
  types(kind: ComponentKind): readonly string[]
  /** The definition, imported on demand. Throws USAGE with a suggestion where there is none of that type. */
  get<Kind extends ComponentKind>(kind: Kind, type: string): Promise<ComponentKinds[Kind]>
}

/** Components that are already imported, by kind and type. */
type ComponentMap = { readonly [Kind in ComponentKind]?: Readonly<Record<string, ComponentKinds[Kind]>> }

export interface RegistryOptions {
  /** Folder that holds extractors/, transforms/, loaders/, consumers/ and transports/. Default: the one that holds core/. */
  readonly root?: string
  /** Components from elsewhere; they win over discovered ones of the same type. */
  readonly extra?: ComponentMap
}

/** Lists the component folders; works from the sources (.ts) and from the build (.js). */
export async function loadRegistry(options: RegistryOptions = {}): Promise<Registry> {
  const root = options.root ?? fileURLToPath(new URL('..', import.meta.url))
  const files = new Map<string, string>()
  for (const kind of COMPONENT_KINDS)
    for (const file of await componentFiles(join(root, FOLDERS[kind]))) files.set(`${kind} ${typeOf(file)}`, file)
  return new FolderRegistry(files, options.extra ?? {})
}

async function componentFiles(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  return entries
    .filter((entry) => entry.isFile() && /\.(?:ts|js)$/.test(entry.name) && !/\.(?:d|test)\.ts$/.test(entry.name))
    .map((entry) => join(folder, entry.name))
}

function typeOf(file: string): string {
  return basename(file, extname(file))
}

class FolderRegistry implements Registry {
  readonly #files: ReadonlyMap<string, string>
  readonly #extra: ComponentMap

  constructor(files: ReadonlyMap<string, string>, extra: ComponentMap) {
    this.#files = files
    this.#extra = extra
  }

  types(kind: ComponentKind): readonly string[] {
    const prefix = `${kind} `
    const found = [...this.#files.keys()].filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length))
    return [...new Set([...found, ...Object.keys(this.#extra[kind] ?? {})])].sort()
  }

  async get<Kind extends ComponentKind>(kind: Kind, type: string): Promise<ComponentKinds[Kind]> {
    const extra: Readonly<Record<string, ComponentKinds[Kind]>> | undefined = this.#extra[kind]
    if (extra !== undefined && Object.hasOwn(extra, type)) return extra[type] as ComponentKinds[Kind]
    const file = this.#files.get(`${kind} ${type}`)
    if (file === undefined) {
      const types = this.types(kind)
      const hint = didYouMean(type, types) ?? `there are: ${types.join(', ')}`
      throw new AdflowError('USAGE', `there is no ${kind} of the type \`${type}\``, { hint })
    }
    const module: { readonly default?: unknown } = await import(pathToFileURL(file).href)
    if (!isDefinition(kind, module.default))
      throw new AdflowError('UNEXPECTED', `${file} does not export a ${kind} definition as its default`, {
        hint: `export default define${kind[0]?.toUpperCase()}${kind.slice(1)}({ … })`,
      })
    return module.default
  }
}

function isDefinition<Kind extends ComponentKind>(kind: Kind, value: unknown): value is ComponentKinds[Kind] {
  return typeof value === 'object' && value !== null && 'kind' in value && value.kind === kind
}
