import { AuthenticationError, NetworkError, ProtocolError, ResponseError } from '@platformatic/kafka'
import { describe, expect, it } from 'vitest'
import { explainKafka, isFenced } from '../../../src/clients/kafka/errors.ts'

const answered = (name: string) =>
  new AggregateError([new ProtocolError(name as never)], 'Received response with error')

describe('an error of Kafka', () => {
  it.each([
    [answered('NOT_ENOUGH_REPLICAS'), 'STORE_UNAVAILABLE', 'min.insync.replicas'],
    [answered('KAFKA_STORAGE_ERROR'), 'STORE_UNAVAILABLE', 'disk'],
    [answered('NOT_COORDINATOR'), 'STORE_UNAVAILABLE', 'nothing of the batch can be read'],
    [answered('TOPIC_AUTHORIZATION_FAILED'), 'STORE_DENIED', 'grant'],
    [answered('TRANSACTIONAL_ID_AUTHORIZATION_FAILED'), 'STORE_DENIED', 'adflow-'],
    [answered('CLUSTER_AUTHORIZATION_FAILED'), 'STORE_DENIED', 'create: never'],
    [new AuthenticationError('no', { cause: answered('UNSUPPORTED_SASL_MECHANISM') }), 'STORE_DENIED', 'sasl'],
    [answered('INVALID_CONFIG'), 'STORE_MISMATCH', ''],
    [answered('POLICY_VIOLATION'), 'STORE_MISMATCH', ''],
    [answered('UNSUPPORTED_VERSION'), 'STORE_MISMATCH', '3.6'],
    [new NetworkError('Connection closed'), 'STORE_UNAVAILABLE', 'brokers run'],
    [
      new NetworkError('failed', { cause: Object.assign(new Error('expired'), { code: 'CERT_HAS_EXPIRED' }) }),
      'STORE_DENIED',
      'tls.ca',
    ],
  ] as const)('%s is %s', (error, code, hint) => {
    const told = explainKafka(error, 'write')
    expect(told).toMatchObject({ code, message: expect.stringMatching(/^cannot write: /) })
    expect(told.hint).toContain(hint)
  })

  it('of one record is told by the name that it has for the whole', () => {
    const errors = { '/a': [-1, 'no key'], '/b': [87, 'One or more records have been rejected'] } as const
    const told = explainKafka(new ResponseError(0, 9, errors as never, {}), 'write')
    expect(told).toMatchObject({ code: 'STORE_MISMATCH', message: expect.stringContaining('INVALID_RECORD') })
  })

  it('tells when another process has taken over', () => {
    expect(isFenced(answered('INVALID_PRODUCER_EPOCH'))).toBe(true)
    expect(isFenced(answered('NOT_COORDINATOR'))).toBe(false)
  })
})
