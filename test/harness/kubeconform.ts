/**
 * kubeconform over schemas that are on this machine. The schemas of Kubernetes come with the Python package kubernetes-validate; from
 * each a file is made that needs no other, and that knows no key but its own.
 */
import { execFile } from 'node:child_process'
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cached, goProgram, politely } from './servers/core/cache.ts'
import { programFromDebian } from './servers/core/machine.ts'

const PROGRAM = 'v0.6.7'
const SCHEMAS = '1.37.0'
const KUBERNETES = '1.34.0'
const KINDS = [
  'deployment-apps-v1',
  'cronjob-batch-v1',
  'persistentvolumeclaim-v1',
  'namespace-v1',
  'networkpolicy-networking-v1',
  'service-v1',
]

interface Verdict {
  readonly resources: readonly {
    readonly filename: string
    readonly kind: string
    readonly status: string
    readonly msg: string
  }[]
}

/** One line for each resource: kind, and what is wrong with it or `statusValid`. */
export async function kubeconform(files: readonly string[]): Promise<readonly string[]> {
  const program = await goProgram('kubeconform', 'github.com/yannh/kubeconform/cmd/kubeconform', PROGRAM)
  const location = `${await schemas()}/{{.ResourceKind}}{{.KindSuffix}}.json`
  const told = await new Promise<string>((resolve) =>
    execFile(program, ['-output=json', '-verbose', '-schema-location', location, ...files], (_, stdout) =>
      resolve(stdout),
    ),
  )
  return (JSON.parse(told) as Verdict).resources.map(({ kind, status, msg }) => `${kind}: ${msg || status}`)
}

function schemas(): Promise<string> {
  return cached(`kubernetes-schemas-${KUBERNETES}-${SCHEMAS}-${KINDS.length}`, async (folder) => {
    const python = await programFromDebian('python3', ['python3', 'python3-pip'])
    const wheel = join(folder, 'wheel')
    await politely(
      python,
      ['-m', 'pip', 'download', '--quiet', '--no-deps', '-d', wheel, `kubernetes-validate==${SCHEMAS}`],
      {},
    )
    const [name = ''] = await readdir(wheel)
    await politely(python, ['-m', 'zipfile', '-e', join(wheel, name), wheel], {})
    const from = join(wheel, 'kubernetes_validate', 'kubernetes-json-schema', `v${KUBERNETES}-local`)
    const { $defs } = JSON.parse(await readFile(join(from, '_definitions.json'), 'utf8')) as { $defs: object }
    for (const kind of KINDS) {
      const { $id: _, ...schema } = JSON.parse(await readFile(join(from, `${kind}.json`), 'utf8')) as Record<
        string,
        unknown
      >
      await writeFile(join(folder, `${kind}.json`), JSON.stringify(closed({ ...schema, $defs })))
    }
    await rm(wheel, { recursive: true })
  })
}

/** References point into the same file, and a map with named keys has no others. */
function closed(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(closed)
  if (typeof schema !== 'object' || schema === null) return schema
  const entries = Object.entries(schema).map(([key, value]): [string, unknown] =>
    key === '$ref' && typeof value === 'string' ? [key, value.slice(value.indexOf('#'))] : [key, closed(value)],
  )
  const made = Object.fromEntries(entries)
  return 'properties' in made &&
    isMap(made['properties']) &&
    made['type'] !== undefined &&
    !('additionalProperties' in made)
    ? { ...made, additionalProperties: false }
    : made
}

function isMap(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
