/** A replace: an index of its own, which takes the place of the others behind the name in one step. */
import { NEXT_TABLE } from '../../core/table-loader.ts'
import type { Fields } from './fields.ts'
import type { Elastic } from './http.ts'
import { createIndex, findTarget, fitTarget, type TargetPlan } from './target.ts'

/** Alias of the index that is being filled. It passes to the next run where one does not come to its end. */
export function nextOf(name: string): string {
  return `${name}${NEXT_TABLE}`
}

export async function fitNext(elastic: Elastic, name: string, fields: Fields, plan: TargetPlan): Promise<void> {
  if ((await findTarget(elastic, nextOf(name))) === undefined)
    await createIndex(elastic, { index: `${name}__adflow_${Date.now()}`, alias: nextOf(name) }, fields, plan)
  await fitTarget(elastic, nextOf(name), fields, plan)
}

/**
 * What `name` stood for goes: an index of that name, and indexes that an earlier replace has made, are deleted; of others only
 * the alias is taken away. Where nothing was read there is no next index, and all stays.
 */
export async function swapIn(elastic: Elastic, name: string): Promise<void> {
  const next = await findTarget(elastic, nextOf(name))
  if (next === undefined) return
  const old = await findTarget(elastic, name)
  const going = (old?.indices ?? []).map((index) =>
    index === name || index.startsWith(`${name}__adflow_`)
      ? { remove_index: { index } }
      : { remove: { index, alias: name } },
  )
  const coming = [{ add: { index: next.write, alias: name } }, { remove: { index: next.write, alias: nextOf(name) } }]
  const doing = `put what was read in the place of ${name}`
  await elastic.request({ method: 'POST', path: [next.write, '_refresh'], doing })
  await elastic.request({ method: 'POST', path: ['_aliases'], body: { actions: [...going, ...coming] }, doing })
}
