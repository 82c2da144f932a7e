import { expect, it } from 'vitest'
import { jobJsonSchema } from '../../../src/core/job/json-schema.ts'
import { type JsonSchema, schemasAt } from '../../../src/core/job/json-shape.ts'
import { jobDocument } from '../../../src/core/job/schema.ts'
import { fakeRegistry } from './fake-registry.ts'

const schema = await jobJsonSchema(await fakeRegistry())

function at(...path: string[]): JsonSchema {
  return schemasAt(schema, path)[0] ?? {}
}

/** Options of the only component of a section. */
function optionsOf(section: string): JsonSchema {
  const [choice = {}] = at(section, 'any').allOf ?? []
  return choice['then'] as JsonSchema
}

it('has every section of a job file, with a description, and no other keys', () => {
  expect(Object.keys(schema.properties ?? {})).toEqual(Object.keys(jobDocument.shape))
  expect(Object.entries(schema.properties ?? {}).filter(([, section]) => section.description === undefined)).toEqual([])
  expect(schema).toMatchObject({
    $schema: 'http://json-schema.org/draft-07/schema#',
    additionalProperties: false,
    required: ['version', 'name', 'extract', 'contract', 'load'],
  })
})

it('offers the types of components with their summaries', () => {
  const type = at('extract', 'any').properties?.['type']
  expect(type).toMatchObject({ anyOf: [{ const: 'files', description: 'Reads files.' }] })
})

it('closes the options of a component by its type, with the keys of every entry among them', () => {
  const [choice] = at('load', 'any').allOf ?? []
  expect(choice).toMatchObject({ if: { properties: { type: { const: 'duckdb' } }, required: ['type'] } })
  const options = optionsOf('load')
  expect(options).toMatchObject({ type: 'object', additionalProperties: false, required: ['table'] })
  expect(Object.keys(options.properties ?? {})).toEqual(['type', 'input', 'optional', 'table', 'write'])
  expect(options.properties?.['table']).toMatchObject({ type: 'string', description: 'Table.' })
})

it('closes options even where their author left them open', () => {
  expect(optionsOf('extract')).toMatchObject({ additionalProperties: false })
})

it('takes exactly one verb in a step, and an id', () => {
  const step = schemasAt(schema, ['transform', 0])[0] as JsonSchema
  expect(Object.keys(step.properties ?? {})).toEqual(['id', 'aggregate', 'dedupe', 'derive', 'filter'])
  expect(step.oneOf).toEqual(['aggregate', 'dedupe', 'derive', 'filter'].map((verb) => ({ required: [verb] })))
  expect(step.properties?.['dedupe']?.properties).toHaveProperty('id')
  expect(step.properties?.['derive']?.properties).toBeUndefined()
})

it('writes durations and sizes as text', () => {
  expect(optionsOf('extract').properties?.['window']).toMatchObject({ type: 'string', default: '15m' })
})

it('takes a variable where a number, a boolean or one of a few words is wanted', () => {
  const properties = optionsOf('extract').properties ?? {}
  for (const option of ['port', 'header', 'format'])
    expect(properties[option]?.anyOf?.[1]).toEqual({ $ref: '#/definitions/substitution' })
  expect(schema.definitions?.['substitution']).toEqual({ type: 'string', pattern: '\\$\\{[^}]+\\}' })
})
