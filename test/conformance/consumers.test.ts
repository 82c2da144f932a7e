import { readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import files from '../../src/consumers/files.ts'
import webhook from '../../src/consumers/webhook.ts'
import { SECRET, WebhookReceiver } from '../harness/webhook-receiver.ts'
import { type ConsumerFixture, consumerConformance } from './suites/consumer.ts'

type Row = Record<string, unknown>

/** Numbers as the text that they were. */
function exact(text: string): unknown {
  const keep = (_: string, value: unknown, context: { source?: string }) =>
    typeof value === 'number' ? context.source : value
  return JSON.parse(text, keep as (key: string, value: unknown) => unknown)
}

function hook(options: Readonly<Record<string, unknown>>, rowOf: (event: Row) => Row): () => Promise<ConsumerFixture> {
  return async () => {
    const receiver = new WebhookReceiver()
    await receiver.start()
    return {
      options: { url: receiver.url, secret: SECRET, allow_private: true, ...options },
      received: async () => {
        if (receiver.faults.length > 0) throw new Error(receiver.faults.join('\n'))
        return receiver.accepted.flatMap(({ body }) => [exact(body)].flat() as Row[]).map(rowOf)
      },
      down: () => receiver.stop(),
      up: () => receiver.start(),
      close: () => receiver.stop(),
    }
  }
}

function folder(format: 'csv' | 'ndjson', parse: (text: string) => Row[]): () => Promise<ConsumerFixture> {
  return async () => ({
    options: { path: 'out/partner', format },
    received: async (base) => {
      const out = join(base, 'out', 'partner')
      const manifests = readdirSync(out).filter((name) => name.endsWith('.manifest.json'))
      const made = manifests.map((name) => (JSON.parse(readFileSync(join(out, name), 'utf8')) as { file: string }).file)
      return made.sort().flatMap((file) => parse(readFileSync(join(out, file), 'utf8')))
    },
    // A file stands where the folder was: nothing can be written, whoever asks.
    down: async (base) => {
      renameSync(join(base, 'out'), join(base, 'aside'))
      writeFileSync(join(base, 'out'), '')
    },
    up: async (base) => {
      rmSync(join(base, 'out'))
      renameSync(join(base, 'aside'), join(base, 'out'))
    },
    close: async () => undefined,
  })
}

function csv(text: string): Row[] {
  const [header = '', ...lines] = text.trimEnd().split('\n')
  const cells = (line: string) =>
    [...line.matchAll(/(?:^|,)(?:"((?:[^"]|"")*)"|([^,]*))/g)].map(
      ([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain,
    )
  const names = cells(header)
  return lines.map((line) => Object.fromEntries(cells(line).map((cell, index) => [String(names[index]), cell])))
}

const ndjson = (text: string) =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => exact(line) as Row)
const dataOf = ({ data }: Row) => data as Row

consumerConformance('webhook', 'webhook', webhook, hook({}, dataOf))
consumerConformance('webhook, many rows', 'webhook', webhook, hook({ batch: { rows: 7, bytes: '1KB' } }, dataOf))
consumerConformance(
  'webhook, bare rows',
  'webhook',
  webhook,
  hook({ format: 'json', batch: { rows: 5 } }, (row) => row),
)
consumerConformance(
  'webhook, attributes in headers',
  'webhook',
  webhook,
  hook({ format: 'cloudevents_binary' }, (row) => row),
)
consumerConformance('files csv', 'files', files, folder('csv', csv))
consumerConformance('files ndjson', 'files', files, folder('ndjson', ndjson))
