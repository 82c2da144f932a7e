import { expect, it } from 'vitest'
import { z } from 'zod'
import { componentIndex, componentPage, optionRows } from '../../src/core/component-page.ts'
import { defineExtractor } from '../../src/core/define.ts'
import { COMPONENT_KINDS, loadRegistry } from '../../src/core/registry.ts'
import { aggregate, derive, duckdb, fakeRegistry, files } from './job/fake-registry.ts'

const create = (): never => {
  throw new Error('a page is made without its component')
}

it('lists options with type, default and description, nested ones by their path', () => {
  const rows = optionRows('loader', 'duckdb', duckdb)
  expect(rows).toEqual([
    { name: 'table', type: 'text', required: true, preset: undefined, description: 'Table.' },
    { name: 'write', type: '`append`, `merge`', required: false, preset: 'append', description: 'Disposition.' },
  ])
  const names = optionRows('extractor', 'files', files).map(({ name, type }) => `${name}: ${type}`)
  expect(names).toContain('cursor.field: text')
  expect(names).toContain('paths: list of text')
  expect(names).toContain('window: text such as `250ms`')
})

it('shows options that are no map under the verb itself', () => {
  expect(optionRows('step', 'derive', derive)).toEqual([
    { name: 'derive', type: 'map of text', required: true, preset: undefined, description: 'Column → expression.' },
  ])
})

it('makes a page with the example as YAML', () => {
  expect(
    componentPage('loader', 'duckdb', duckdb),
  ).toBe(`<!-- Generated from src/ by \`npm run generate\`. Do not edit. -->
# loader \`duckdb\`

Loads into DuckDB.

## Options

| option | type | default | description |
|---|---|---|---|
| \`table\` | text | required | Table. |
| \`write\` | \`append\`, \`merge\` | \`append\` | Disposition. |

## Example

\`\`\`yaml
load:
  my_duckdb:
    type: duckdb
    table: events
\`\`\`
`)
  expect(componentPage('step', 'derive', derive)).toContain('Beside the verb a step may have an `id`')
  expect(componentPage('step', 'aggregate', aggregate)).not.toContain('Beside the verb')
})

it('refuses what its author forgot, everything at once', () => {
  const careless = defineExtractor({
    summary: 'Careless.',
    options: z.object({ url: z.string(), type: z.string().describe('x'), auth: z.object({}).optional() }),
    example: {},
    create,
  })
  expect(() => optionRows('extractor', 'careless', careless)).toThrow(
    'the extractor careless is not documented: the option `type` is taken by the job file itself; `auth` takes unknown keys in silence; the option `url` has no description; the option `auth` has no description',
  )
})

it('makes the pages of every component of this project', async () => {
  const registry = await loadRegistry()
  for (const kind of COMPONENT_KINDS)
    for (const type of registry.types(kind))
      expect(componentPage(kind, type, await registry.get(kind, type))).toContain(`# ${kind} \`${type}\``)
})

it('lists all components by section', async () => {
  expect(await componentIndex(await fakeRegistry())).toContain(
    '## `load`\n\n- [`duckdb`](loader-duckdb.md): Loads into DuckDB.\n',
  )
})
