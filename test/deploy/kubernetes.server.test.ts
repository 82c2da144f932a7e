/** By kubeconform, with the schemas of Kubernetes; and the rules of the restricted pod security standard by hand. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parseAllDocuments } from 'yaml'
import { temporaryFolder } from '../harness/cli.ts'
import { kubeconform } from '../harness/kubeconform.ts'
import { filesUnder, ROOT, textOf } from '../harness/repository.ts'

interface Container {
  readonly args: readonly string[]
  readonly image: string
  readonly securityContext: Record<string, unknown>
  readonly resources: { readonly limits: Record<string, string>; readonly requests: Record<string, string> }
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string }[]
  readonly startupProbe?: Probe
  readonly livenessProbe?: Probe
  readonly readinessProbe?: Probe
}

interface Probe {
  readonly httpGet: { readonly path: string; readonly port: string }
  readonly periodSeconds: number
  readonly failureThreshold?: number
}

interface PodSpec {
  readonly automountServiceAccountToken: boolean
  readonly terminationGracePeriodSeconds: number
  readonly securityContext: Record<string, unknown>
  readonly containers: readonly Container[]
  readonly volumes: readonly Record<string, unknown>[]
}

interface Resource {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> }
  readonly spec: {
    readonly template: { readonly metadata: { labels: object }; readonly spec: PodSpec }
    readonly jobTemplate: {
      readonly spec: { readonly template: { readonly metadata: { labels: object }; readonly spec: PodSpec } }
    }
    readonly concurrencyPolicy: string
    readonly strategy: object
    readonly replicas: number
    readonly podSelector: { readonly matchLabels: object }
    readonly policyTypes: readonly string[]
  }
}

const paths = filesUnder('deploy/kubernetes')
const resources = paths.flatMap((path) => parseAllDocuments(textOf(path)).map((each) => each.toJS() as Resource))
const one = (kind: string) => resources.find((each) => each.kind === kind) as Resource
const pods = [
  ['Deployment', one('Deployment').spec.template],
  ['CronJob', one('CronJob').spec.jobTemplate.spec.template],
] as const

describe('deploy/kubernetes', () => {
  it('is what Kubernetes takes, with no key that it does not know', async () => {
    const told = await kubeconform(paths.map((path) => join(ROOT, path)))
    expect([...told].sort()).toEqual(resources.map(({ kind }) => `${kind}: statusValid`).sort())
  })

  it('would be refused with a key too many', async () => {
    const temporary = temporaryFolder('kubernetes')
    const path = join(temporary.path, 'wrong.yaml')
    await writeFile(
      path,
      textOf('deploy/kubernetes/deployment.yaml').replace('readOnlyRootFilesystem', 'readOnlyRootFileSystem'),
    )
    const told = await kubeconform([path])
    temporary.remove()
    expect(told).toEqual([expect.stringContaining('readOnlyRootFileSystem')])
  })

  it.each(pods)(
    'runs the %s under the restricted pod security standard, with a root that is read-only',
    (_, { spec }) => {
      expect(spec.automountServiceAccountToken).toBe(false)
      expect(spec.securityContext).toMatchObject({
        runAsNonRoot: true,
        runAsUser: 10001,
        seccompProfile: { type: 'RuntimeDefault' },
      })
      for (const { securityContext, resources: room, volumeMounts, image } of spec.containers) {
        expect(securityContext).toEqual({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        })
        expect(Object.keys(room.limits)).toContain('memory')
        expect(volumeMounts.map(({ mountPath }) => mountPath)).toEqual(['/jobs', '/state', '/tmp'])
        expect(image).toMatch(/:\d/)
      }
      const kinds = spec.volumes.flatMap((volume) => Object.keys(volume).filter((key) => key !== 'name'))
      expect(kinds).toEqual(['configMap', 'persistentVolumeClaim', 'emptyDir'])
      expect(one('Namespace').metadata.labels?.['pod-security.kubernetes.io/enforce']).toBe('restricted')
    },
  )

  it('gives the daemon the time that it drains in, and asks it by its probes', () => {
    const { spec } = one('Deployment')
    const [container] = spec.template.spec.containers
    expect(spec.template.spec.terminationGracePeriodSeconds).toBeGreaterThan(25)
    expect([spec.replicas, spec.strategy]).toEqual([1, { type: 'Recreate' }])
    expect(container?.startupProbe?.httpGet).toEqual({ path: '/livez', port: 'http' })
    expect(container?.livenessProbe?.httpGet).toEqual({ path: '/livez', port: 'http' })
    expect(container?.readinessProbe?.httpGet).toEqual({ path: '/readyz', port: 'http' })
  })

  it('lets one pod of the cron job run at a time, and its policy holds for all pods, in and out', () => {
    expect(one('CronJob').spec.concurrencyPolicy).toBe('Forbid')
    const { podSelector, policyTypes } = one('NetworkPolicy').spec
    expect(policyTypes).toEqual(['Ingress', 'Egress'])
    for (const [, { metadata }] of pods) expect(metadata.labels).toMatchObject(podSelector.matchLabels)
    for (const { kind, metadata } of resources)
      if (kind !== 'Namespace') expect(metadata.namespace, kind).toBe('adflow')
  })
})

describe('deploy/Dockerfile', () => {
  const text = textOf('deploy/Dockerfile')
  it('runs as nobody in particular, from a pinned image, and copies what is there', () => {
    const froms = [...text.matchAll(/^FROM (\S+)/gm)].map(([, image]) => image)
    expect(new Set(froms).size).toBe(1)
    expect(froms[0]).toMatch(/^node:\d+\.\d+\.\d+-bookworm-slim$/)
    expect(text).toMatch(/^USER 10001:10001$/m)
    expect(text).not.toMatch(/^(?:ADD|ARG|ENV .*(?:TOKEN|PASSWORD|SECRET))/m)
    expect(text.indexOf('USER 10001')).toBeLessThan(text.indexOf('ENTRYPOINT'))
  })
})
