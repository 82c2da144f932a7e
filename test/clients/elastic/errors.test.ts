import { expect, it } from 'vitest'
import { complaintError, complaintOf, describe } from '../../../src/clients/elastic/errors.ts'

it.for([
  [
    'a value that is quoted behind the field',
    {
      type: 'mapper_parsing_exception',
      reason: "failed to parse field [n] of type [long] in document with id 'x'. Preview of field's value: 'secret'",
      caused_by: { reason: 'For input string: "secret"' },
    },
    "status 400, mapper_parsing_exception, failed to parse field [n] of type [long] in document with id 'x'",
  ],
  [
    'a cause that alone says something',
    {
      type: 'mapper_parsing_exception',
      reason: 'failed to parse',
      caused_by: { reason: 'data stream timestamp field [@timestamp] is missing' },
    },
    'status 400, mapper_parsing_exception, failed to parse: data stream timestamp field [@timestamp] is missing',
  ],
  [
    'a term that is too long',
    {
      type: 'illegal_argument_exception',
      reason:
        'Document contains at least one immense term in field="t". The prefix of the first immense term is: \'[115, 101]...\'',
    },
    'status 400, illegal_argument_exception, Document contains at least one immense term in field="t"',
  ],
  ['a page of a proxy', 'Bad Gateway', 'status 400, Bad Gateway'],
] as const)('%s: says what is wrong, without the value', ([, error, text]) => {
  expect(describe(complaintOf(400, error))).toBe(text)
})

it.for([
  [401, '', 'STORE_DENIED', false],
  [403, 'security_exception', 'STORE_DENIED', false],
  [403, 'cluster_block_exception', 'STORE_UNAVAILABLE', true],
  [429, 'cluster_block_exception', 'STORE_UNAVAILABLE', true],
  [429, 'es_rejected_execution_exception', 'STORE_UNAVAILABLE', true],
  [503, 'unavailable_shards_exception', 'STORE_UNAVAILABLE', true],
  [404, 'index_not_found_exception', 'STORE_MISMATCH', false],
  [400, 'illegal_argument_exception', 'STORE_MISMATCH', false],
  [413, '', 'STORE_MISMATCH', false],
  [301, '', 'STORE_MISMATCH', false],
] as const)('status %s %s is %s', ([status, type, code, retryable]) => {
  const error = complaintError({ status, type, reason: '' }, 'write')
  expect(error).toMatchObject({ code, retryable, hint: expect.any(String) })
})
