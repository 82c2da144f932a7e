import { expect, it } from 'vitest'
import { ident } from '../../src/engine/sql-text.ts'
import { parseType, type TypeText } from '../../src/engine/type-text.ts'
import { duckdbRows } from '../harness/engine.ts'

it.for([
  'BIGINT',
  'DECIMAL(38,18)',
  'TIMESTAMP WITH TIME ZONE',
  "ENUM('a, b', 'c)', '\"', '''')",
  'UNION(a INTEGER, b VARCHAR)',
  'INTEGER[3]',
  'DECIMAL(9,2)[][]',
  'MAP(VARCHAR, STRUCT(a INTEGER, b DECIMAL(9,2)))',
  `STRUCT("a b" INTEGER, "x""y, (" STRUCT("at" TIMESTAMP WITH TIME ZONE, q DECIMAL(5,2)[])[], e ENUM('a,b'))[]`,
])('takes %s apart as the engine prints it, and it is the same type again', async (type) => {
  const [row] = await duckdbRows(`SELECT typeof(NULL::${type}) AS text, typeof(NULL::${written(type)}) AS again`)
  expect(row?.['again']).toBe(String(row?.['text']).replace('[3]', '[]'))
})

function written(type: string): string {
  const text = (tree: TypeText): string => {
    switch (tree.kind) {
      case 'list':
        return `${text(tree.item)}[]`
      case 'map':
        return `MAP(${text(tree.key)}, ${text(tree.value)})`
      case 'struct':
        return `STRUCT(${tree.fields.map(({ name, type }) => `${ident(name)} ${text(type)}`).join(', ')})`
      case 'plain':
        return tree.name
    }
  }
  return text(parseType(type))
}
