import { describe, expect, it } from 'vitest'
import { columnNames, snake } from '../../src/init/column-names.ts'

describe('names of fields', () => {
  it.each([
    ['Cost Total $', 'cost_total'],
    ['eventId', 'event_id'],
    ['HTTPStatus', 'http_status'],
    ['US Gross', 'us_gross'],
    ['2024', 'n_2024'],
    ['__typename', 'typename'],
    ['Größe (cm)', 'größe_cm'],
    ['already_snake_1', 'already_snake_1'],
    ['$%', ''],
  ])('%s becomes %s', (field, name) => {
    expect(snake(field)).toBe(name)
  })

  it('are unique, never empty and never reserved words of SQL', () => {
    const names = columnNames(['a b', 'a_b', 'A-B', '$', 'order'], new Set(['order']))
    expect(names).toEqual(['a_b', 'a_b_2', 'a_b_3', 'column_4', 'order_'])
  })
})
