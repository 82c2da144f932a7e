/** The sections extract, transform, load and distribute: each entry against the schema of its component. */
import { z } from 'zod'
import type { ComponentKind, Registry } from '../registry.ts'
import { type Checker, isMap } from './checker.ts'
import { extractBase } from './extract-keys.ts'
import { identifier } from './identifier.ts'
import type { JobConsumer, JobExtractor, JobLoader, JobStep } from './job.ts'
import { strict } from './json-shape.ts'
import type { Path } from './places.ts'
import { distributeBase, loadBase } from './schema.ts'
import { didYouMean, orList } from './suggest.ts'

/** The end of the chain, as an input and in tests. */
export const MAIN = 'main'

const extractKeys = z.looseObject(extractBase)
const loadKeys = z.object(loadBase)
const distributeKeys = z.looseObject(distributeBase)

/** Sources, highest priority first. */
export async function readExtract(checker: Checker, registry: Registry): Promise<JobExtractor[]> {
  const found = await readComponents(checker, registry, 'extractor', 'extract', Object.keys(extractBase))
  const extractors = found.flatMap((component) => {
    const base = checker.check(extractKeys, component.path)
    if (base === undefined) return []
    const { optional, priority, give_up_after, time_limit } = base
    return [{ ...component, optional, priority, giveUpAfterMs: give_up_after, timeLimitMs: time_limit }]
  })
  return extractors.sort((a, b) => b.priority - a.priority)
}

/** Loaders; their inputs must be outputs of steps. */
export async function readLoad(checker: Checker, registry: Registry, steps: readonly JobStep[]): Promise<JobLoader[]> {
  checkInputs(checker, 'load', steps)
  const found = await readComponents(checker, registry, 'loader', 'load', Object.keys(loadBase))
  return found.flatMap((component) => {
    const base = loadKeys.safeParse(pick(checker, component.path, loadBase))
    return base.success ? [{ ...component, input: base.data.input, optional: base.data.optional }] : []
  })
}

/** Consumers; their inputs must be outputs of steps. */
export async function readDistribute(
  checker: Checker,
  registry: Registry,
  steps: readonly JobStep[],
): Promise<JobConsumer[]> {
  checkInputs(checker, 'distribute', steps)
  const found = await readComponents(checker, registry, 'consumer', 'distribute', Object.keys(distributeBase))
  return found.flatMap(({ path, ...component }) => {
    const base = checker.check(distributeKeys, path)
    if (base === undefined) return []
    const { input = MAIN, optional, concurrency, where, select, key, retry, breaker, patience } = base
    const at = (sql: string, ...inner: string[]) => ({ sql, path: [...path, ...inner] })
    return [
      {
        ...component,
        optional,
        concurrency,
        path,
        input,
        where: where === undefined ? undefined : at(where, 'where'),
        select:
          select === undefined
            ? undefined
            : Object.entries(select).map(([name, sql]) => ({ name, expression: at(sql, 'select', name) })),
        key: key === undefined ? undefined : at(key, 'key'),
        retry: { initialMs: retry.initial, maxMs: retry.max, deadlineMs: retry.deadline },
        breaker: { failures: breaker.failures, pauseMs: breaker.pause },
        patienceMs: patience,
      },
    ]
  })
}

function checkInputs(checker: Checker, section: 'load' | 'distribute', steps: readonly JobStep[]): void {
  const outputs = [MAIN, ...steps.flatMap(({ id, branches }) => [id, ...branches])]
  for (const id of Object.keys(checker.rawMap([section]))) {
    const input = checker.raw([section, id, 'input'])
    if (typeof input !== 'string' || outputs.includes(input)) continue
    const known = didYouMean(input, outputs) ?? `there are: ${orList(outputs)}`
    checker.add([section, id, 'input'], `no step has the id \`${input}\``, known)
  }
}

/** The transport of lineage events, where the job names one. */
export async function readTransport(
  checker: Checker,
  registry: Registry,
): Promise<{ readonly type: string; readonly options: unknown } | undefined> {
  const path = ['lineage', 'transport']
  const { type, ...options } = checker.rawMap(path)
  if (typeof type !== 'string' || type === '') return undefined
  const types = registry.types('transport')
  if (!types.includes(type)) {
    checker.add(
      [...path, 'type'],
      `there is no transport of the type \`${type}\``,
      didYouMean(type, types) ?? listed(types),
    )
    return undefined
  }
  const { options: schema } = await registry.get('transport', type)
  const parsed = checker.check(strict(schema), path, options)
  return parsed === undefined ? undefined : { type, options: parsed }
}

function pick(checker: Checker, path: Path, base: z.core.$ZodShape): unknown {
  const keys = checker.check(z.looseObject(base), path)
  return keys ?? checker.rawMap(path)
}

interface Found {
  readonly id: string
  readonly type: string
  readonly options: unknown
  readonly path: Path
}

async function readComponents(
  checker: Checker,
  registry: Registry,
  kind: ComponentKind,
  section: 'extract' | 'load' | 'distribute',
  baseKeys: readonly string[],
): Promise<Found[]> {
  const types = registry.types(kind)
  const result: Found[] = []
  const used = new Set<string>()
  for (const [id, entry] of Object.entries(checker.rawMap([section]))) {
    const path = [section, id]
    if (!isMap(entry) || typeof entry['type'] !== 'string' || entry['type'] === '') continue
    const type = entry['type']
    used.add(type)
    if (!types.includes(type)) {
      checker.add(
        [...path, 'type'],
        `there is no ${kind} of the type \`${type}\``,
        didYouMean(type, types) ?? listed(types),
      )
      continue
    }
    const shared = ['defaults', section, type]
    checker.inherit(path, shared)
    const own = Object.entries(entry).filter(([key]) => key !== 'type' && !baseKeys.includes(key))
    const options = { ...checker.rawMap(shared), ...Object.fromEntries(own) }
    const { options: schema } = await registry.get(kind, type)
    const parsed = checker.check(strict(schema), path, options)
    if (parsed !== undefined) result.push({ id, type, options: parsed, path })
  }
  for (const type of Object.keys(checker.rawMap(['defaults', section])))
    if (!used.has(type))
      checker.add(
        ['defaults', section, type],
        `nothing in \`${section}\` has the type \`${type}\`, so these options reach nobody`,
        didYouMean(type, used),
        'key',
      )
  return result
}

function listed(types: readonly string[]): string {
  return types.length === 0 ? 'there are none' : `there are: ${orList(types)}`
}

/** Steps in order. A step is a map with one verb, and an `id` beside it or, where its options are a map of named options, inside. */
export async function readTransform(checker: Checker, registry: Registry): Promise<JobStep[]> {
  const steps: ReadStep[] = []
  for (const [index, item] of checker.rawList(['transform']).entries()) {
    const step = isMap(item) ? await readStep(checker, registry, ['transform', index], item) : undefined
    if (step !== undefined) steps.push(step)
  }
  return named(steps)
}

type ReadStep = Omit<JobStep, 'id' | 'named'> & { readonly id: string | undefined }

async function readStep(
  checker: Checker,
  registry: Registry,
  path: Path,
  item: Readonly<Record<string, unknown>>,
): Promise<ReadStep | undefined> {
  const verbs = registry.types('step')
  const keys = Object.keys(item).filter((key) => key !== 'id')
  const [verb] = keys
  if (verb === undefined) {
    checker.add(path, 'a step needs a verb', verbs.length === 0 ? undefined : `one of: ${orList(verbs)}`)
    return undefined
  }
  if (keys.length > 1) {
    checker.add(
      path,
      `a step has one verb, found ${keys.map((key) => `\`${key}\``).join(', ')}`,
      'start each with its own `-`',
    )
    return undefined
  }
  const at = [...path, verb]
  if (!verbs.includes(verb)) {
    checker.add(at, `there is no step \`${verb}\``, didYouMean(verb, verbs) ?? listed(verbs), 'key')
    // Kept for its id, so that what names the step is not wrong as well.
    return {
      id: typeof item['id'] === 'string' ? item['id'] : undefined,
      verb,
      options: undefined,
      branches: [],
      path: at,
    }
  }
  const definition = await registry.get('step', verb)
  const { options: schema } = definition
  const value = item[verb]
  const inside = isMap(value) && 'id' in value && takesId(schema)
  const { id: innerId, ...rest } = isMap(value) ? value : {}
  const declared = inside && declaresId(schema)
  const options = checker.check(strict(schema), at, inside && !declared ? rest : value)
  const idPath = inside && item['id'] === undefined ? [...at, 'id'] : [...path, 'id']
  if (inside && item['id'] !== undefined)
    checker.add([...at, 'id'], 'the step has an `id` twice', 'keep one of them', 'key')
  const id = (inside ? innerId : undefined) ?? item['id']
  const checkedId = id === undefined ? undefined : checker.check(identifier, idPath)
  const branches = options === undefined ? [] : (definition.branches?.(options) ?? [])
  return { id: checkedId, verb, options, branches, path: at }
}

/** Named options may hold the step's id; a map of columns may not, there `id` is a column. */
export function takesId(schema: z.ZodType): boolean {
  if (schema instanceof z.ZodObject) return true
  if (schema instanceof z.ZodUnion) {
    const options = schema.options as readonly z.ZodType[]
    return options.some(takesId) && !options.some((option) => option instanceof z.ZodRecord)
  }
  if (schema instanceof z.ZodPipe) return takesId(schema.in as z.ZodType)
  return false
}

function declaresId(schema: z.ZodType): boolean {
  return schema instanceof z.ZodObject && 'id' in schema.shape
}

/** Steps without an id are called after their verb: `derive_1`, `derive_2` … */
function named(steps: readonly ReadStep[]): JobStep[] {
  const taken = new Set(steps.map((step) => step.id))
  const counts = new Map<string, number>()
  return steps.map((step) => {
    if (step.id !== undefined) return { ...step, id: step.id, named: true }
    const base = step.verb.replaceAll('-', '_')
    let count = counts.get(base) ?? 0
    do count++
    while (taken.has(`${base}_${count}`))
    counts.set(base, count)
    return { ...step, id: `${base}_${count}`, named: false }
  })
}
