/** What a process remembers of the batches that it has sent. */
import { expect, it } from 'vitest'
import { z } from 'zod'
import { BatchLedger, REMEMBERED_BATCHES } from '../../../src/clients/kafka/batch-ledger.ts'
import { KafkaCluster } from '../../../src/clients/kafka/cluster.ts'
import { connectionShape } from '../../../src/clients/kafka/options.ts'

it('remembers the batches that were sent last, and not all of months', () => {
  const cluster = new KafkaCluster(z.object(connectionShape).parse({ brokers: '127.0.0.1:1' }), '/')
  const ledger = new BatchLedger(cluster, '_adflow_batches.events')
  const batch = (n: number) => ({
    ...{ job: 'job', source: 'input', range: { lane: 'events/0', from: String(n), to: String(n + 1) } },
    ...{ token: `token-${n}`, digest: `crc32:${n}`, clock: '2026-03-01T00:00:00Z' },
  })
  for (let n = 0; n < REMEMBERED_BATCHES; n += 1) ledger.remember(batch(n), 1)
  ledger.remember(batch(0), 1)
  ledger.remember(batch(REMEMBERED_BATCHES), 2)
  expect(ledger.find('token-0')).toEqual({ digest: 'crc32:0', rows: 1 })
  expect(ledger.find('token-1')).toBeUndefined()
  expect(ledger.find(`token-${REMEMBERED_BATCHES}`)).toEqual({ digest: `crc32:${REMEMBERED_BATCHES}`, rows: 2 })
})
