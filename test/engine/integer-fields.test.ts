import { expect, it } from 'vitest'
import { integerFields } from '../../src/engine/integer-fields.ts'

const column = (name: string, type: string, from = name) => ({ name, type, from })

it('are keys of records that one column reads as an integer of up to 64 bits', () => {
  expect(
    integerFields([
      column('a', 'bigint'),
      column('b', ' INTEGER '),
      column('c', 'int', 'C c'),
      column('d.e', 'smallint'),
      ...[column('f', 'hugeint'), column('g', 'ubigint'), column('h', 'decimal(18,0)'), column('i', 'bigint[]')],
      column('j', 'bigint', 'object.id'),
      ...[column('k', 'bigint', 'twice'), column('l', 'varchar', 'twice')],
      ...[column('m', 'bigint', 'deep'), column('n', 'varchar', 'deep.er')],
      { ...column('o', 'bigint'), format: 'epoch_s' },
    ]),
  ).toEqual(['a', 'b', 'C c', 'd.e'])
})
