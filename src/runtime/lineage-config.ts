/** Where the lineage events of a run go: the job file and, above it, the environment, in the words of the OpenLineage clients. */
import { z } from 'zod'
import type { Job } from '../core/job/job.ts'
import type { Registry } from '../core/registry.ts'
import type { TransportDefinition } from '../core/transport.ts'
import type { ParentRun } from '../lineage/openlineage.ts'

type Environment = Readonly<Record<string, string | undefined>>

export interface LineageConfig {
  readonly namespace: string
  readonly type: string
  readonly definition: TransportDefinition
  readonly options: unknown
  readonly parent: ParentRun | undefined
}

const TRANSPORT = 'OPENLINEAGE__TRANSPORT__'

/** Undefined: nobody wants events. `warn` gets what is wrong in the environment: it must not fail a run. */
export async function lineageConfig(
  job: Job,
  registry: Registry,
  env: Environment,
  warn: (text: string) => void,
): Promise<LineageConfig | undefined> {
  if (/^(true|1)$/i.test(env['OPENLINEAGE_DISABLED'] ?? '')) return undefined
  const chosen = (await fromEnvironment(registry, env, warn)) ?? job.lineage.transport
  if (chosen === undefined) return undefined
  return {
    namespace: filled(env['OPENLINEAGE_NAMESPACE']) ?? job.lineage.namespace,
    type: chosen.type,
    definition: await registry.get('transport', chosen.type),
    options: chosen.options,
    parent: parentOf(env, warn),
  }
}

/** `OPENLINEAGE__TRANSPORT__LOG_FILE_PATH` is the option `log_file_path`; values that are JSON are read as JSON. */
async function fromEnvironment(
  registry: Registry,
  env: Environment,
  warn: (text: string) => void,
): Promise<{ type: string; options: unknown } | undefined> {
  const type = filled(env[`${TRANSPORT}TYPE`])
  if (type === undefined) return undefined
  const types = registry.types('transport')
  if (!types.includes(type)) {
    warn(`lineage: ${TRANSPORT}TYPE is ${type}; there are: ${types.join(', ')}. It is passed over`)
    return undefined
  }
  const options = Object.entries(env).flatMap(([name, value]) =>
    name.startsWith(TRANSPORT) && name !== `${TRANSPORT}TYPE` && value !== undefined
      ? [[name.slice(TRANSPORT.length).toLowerCase(), fromText(value)] as const]
      : [],
  )
  const { options: schema } = await registry.get('transport', type)
  const parsed = schema.safeParse(Object.fromEntries(options))
  if (parsed.success) return { type, options: parsed.data }
  warn(`lineage: ${TRANSPORT}* does not fit the transport ${type}: ${z.prettifyError(parsed.error)}. It is passed over`)
  return undefined
}

function fromText(value: string): unknown {
  if (!/^(?:true|false|[[{].*)$/s.test(value)) return value
  try {
    return JSON.parse(value)
  } catch {
    return value
  }
}

const place = z.object({
  run: z.object({ runId: z.uuid() }),
  job: z.object({ namespace: z.string().min(1), name: z.string().min(1) }),
})

/** `OPENLINEAGE_CONTEXT` is JSON with `parent`; `OPENLINEAGE_PARENT_ID` and `OPENLINEAGE_ROOT_PARENT_ID` are
 *  `<namespace>/<job>/<run>`. */
function parentOf(env: Environment, warn: (text: string) => void): ParentRun | undefined {
  const context = filled(env['OPENLINEAGE_CONTEXT'])
  if (context !== undefined) {
    const parsed = place.extend({ root: place.optional() }).safeParse(contextParent(context))
    if (parsed.success) {
      const { root, ...parent } = parsed.data
      return root === undefined ? parent : { ...parent, root }
    }
    warn('lineage: OPENLINEAGE_CONTEXT does not hold a parent with run and job. It is passed over')
  }
  const parent = idOf(env, 'OPENLINEAGE_PARENT_ID', warn)
  if (parent === undefined) return undefined
  return { ...parent, root: idOf(env, 'OPENLINEAGE_ROOT_PARENT_ID', warn) ?? parent }
}

function contextParent(context: string): unknown {
  try {
    return (JSON.parse(context) as { parent?: unknown } | null)?.parent
  } catch {
    return undefined
  }
}

/** A namespace may hold slashes, as URIs do. */
function idOf(env: Environment, name: string, warn: (text: string) => void): z.output<typeof place> | undefined {
  const text = filled(env[name])
  if (text === undefined) return undefined
  const [, namespace, job, runId] = /^(.+)\/([^/]+)\/([^/]+)$/.exec(text) ?? []
  const parsed = place.safeParse({ run: { runId }, job: { namespace, name: job } })
  if (parsed.success) return parsed.data
  warn(`lineage: ${name} is not <namespace>/<job>/<run id>. It is passed over`)
  return undefined
}

function filled(value: string | undefined): string | undefined {
  return value === undefined || value.trim() === '' ? undefined : value.trim()
}
