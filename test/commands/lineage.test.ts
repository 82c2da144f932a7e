import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import Lineage from '../../src/commands/lineage.ts'
import Run from '../../src/commands/run.ts'
import type { JobLineage } from '../../src/runtime/job-lineage.ts'
import { SmallJob } from '../harness/small-job.ts'
import { runCommand } from './run-command.ts'

const JOB = `version: 1
name: rows
extract:
  ads: { type: files, path: "data/a*", settle: 0s }
  more: { type: files, path: "data/b*", settle: 0s, optional: true }
contract:
  columns:
    id: { type: bigint, required: true }
    campaign_id: { type: bigint, from: "campaign.id" }
    email: { type: varchar, personal: true }
    cost: bigint
validate:
  - { id: sane, check: "cost >= 0" }
transform:
  - filter: "campaign_id > 0"
  - rename: { cost: micros }
  - derive: { spend: "micros / 1000000", domain: "split_part(email, '@', 2)" }
  - lookup: { table: campaigns, from: { type: files, path: campaigns.csv }, on: { campaign_id: id }, select: { campaign: name } }
  - id: totals
    aggregate: { by: [campaign], select: { n: "count(*)", spend: "sum(spend)" } }
  - mask: { email: redact }
load:
  warehouse: { type: duckdb, path: warehouse.duckdb, table: rows }
  sums: { type: files, format: csv, path: sums, input: totals }
distribute:
  partner: { type: files, format: ndjson, path: partner, where: "spend > 0", select: { who: email, twice: "spend * 2" } }
`

let folder = ''
let job: SmallJob
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'adflow-lineage-'))
  job = new SmallJob(folder, JOB)
  job.put('campaigns.csv', 'id,name\n7,Spring\n')
  job.put('data/a.ndjson', '{"id":1,"campaign":{"id":7},"cost":5}\n{"id":2,"campaign":{"id":0},"cost":5}\n{"id":"x"}\n')
})
afterAll(() => rm(folder, { recursive: true }))

const print = (...argv: string[]) =>
  runCommand('lineage', Lineage, [job.file, '--state-dir', join(folder, 'state'), ...argv])
const lineage = async (...argv: string[]): Promise<JobLineage> => JSON.parse((await print('--json', ...argv)).stdout)

describe('adflow lineage', () => {
  it('follows every column of stores and consumers back to its fields', async () => {
    const { ends, nodes, flows } = await lineage()
    const from = (node: string, name: string) =>
      ends
        .find((end) => end.node === node && end.name === name)
        ?.from.map((origin) => `${origin.node}.${origin.column} ${origin.how}${origin.masked ? ' masked' : ''}`)
    expect(from('warehouse', 'id')).toEqual(['ads.id same', 'more.id same'])
    expect(from('warehouse', 'campaign_id')).toEqual(['ads.campaign.id same', 'more.campaign.id same'])
    expect(from('warehouse', 'micros')).toEqual(['ads.cost same', 'more.cost same'])
    expect(from('warehouse', 'email')).toEqual(['ads.email computed masked', 'more.email computed masked'])
    expect(from('warehouse', 'campaign')).toEqual([
      'ads.campaign.id found',
      'more.campaign.id found',
      'campaigns.name same',
    ])
    expect(from('sums', 'spend')).toEqual(['ads.cost aggregated', 'more.cost aggregated'])
    expect(from('sums', 'n')).toEqual([])
    expect(from('partner', 'twice')).toEqual(['ads.cost computed', 'more.cost computed'])
    expect(from('partner', 'who')).toEqual(['ads.email computed masked', 'more.email computed masked'])
    expect(nodes.map(({ id, kind }) => `${kind} ${id}`)).toEqual([
      'source ads',
      'source more',
      'reference campaigns',
      'contract contract',
      'step filter_1',
      'step rename_1',
      'step derive_1',
      'step lookup_1',
      'step totals',
      'step mask_1',
      'store warehouse',
      'store sums',
      'consumer partner',
    ])
    expect(flows).toContainEqual({ from: 'totals', to: 'sums' })
    expect(flows).toContainEqual({ from: 'campaigns', to: 'lookup_1' })
    expect(flows).toContainEqual({ from: 'mask_1', to: 'partner' })
  })

  it('marks columns that show personal data, from where they enter to where they are hidden', async () => {
    const { nodes } = await lineage()
    const personal = Object.fromEntries(
      nodes.map(({ id, columns }) => [id, columns.filter((column) => column.personal).map(({ name }) => name)]),
    )
    expect(personal).toMatchObject({
      ads: ['email'],
      contract: ['email'],
      filter_1: ['email'],
      derive_1: ['email', 'domain'],
      totals: [],
      mask_1: ['domain'],
      warehouse: ['domain'],
      partner: [],
    })
    expect((await print()).stdout).toMatch(/warehouse +domain +VARCHAR +ads\.email +computed +personal/)
  })

  it('says what decides which rows there are', async () => {
    const { decisions } = await lineage()
    expect(decisions.map(({ node, by, columns }) => [node, by, columns.map(({ column }) => column)])).toEqual([
      ['contract', 'filter', ['cost']],
      ['filter_1', 'filter', ['campaign_id']],
      ['totals', 'group', ['campaign']],
      ['partner', 'filter', ['spend']],
    ])
  })

  it('narrows to a column: what it depends on and what depends on it, with the SQL that makes it', async () => {
    const { edges, nodes } = await lineage('--column', 'sums.spend')
    expect(edges.map(({ from, to, how }) => `${from.node}.${from.column} → ${to.node}.${to.column} ${how}`)).toEqual([
      'ads.cost → contract.cost same',
      'more.cost → contract.cost same',
      'contract.cost → filter_1.cost same',
      'filter_1.cost → rename_1.micros same',
      'rename_1.micros → derive_1.spend computed',
      'derive_1.spend → lookup_1.spend same',
      'lookup_1.spend → totals.spend aggregated',
      'totals.spend → sums.spend same',
    ])
    expect(nodes.map(({ id }) => id)).not.toContain('warehouse')
    expect((await print('--column', 'EMAIL')).stdout).toMatch(/email +mask_1\.email +computed, masked/)
    expect((await print('--column', 'spend')).stdout).toMatch(/derive_1\.spend +computed +micros \/ 1000000/)
    const { edges: down } = await lineage('--column', 'ads.cost')
    expect(down.map(({ to }) => `${to.node}.${to.column}`)).toContain('partner.twice')
    const wrong = await print('--column', 'spnd')
    expect(wrong.exit).toBe(2)
    expect(wrong.stderr).toContain('did you mean `spend`?')
  })

  it('draws a flow chart, of nodes or of one column', async () => {
    const { stdout } = await print('--format', 'mermaid')
    expect(stdout).toMatch(/^flowchart LR\n/)
    expect(stdout).toContain(`n_ads[("ads: source<br/>${join(folder, 'data/a*')}<br/>personal: email")]:::personal`)
    expect(stdout).toContain('  n_totals --> n_sums')
    const narrowed = (await print('--format', 'mermaid', '--column', 'warehouse.email')).stdout
    expect(narrowed).toContain('subgraph n_mask_1["mask_1: mask"]')
    expect(narrowed).toMatch(/c_lookup_1_656d61696c -->\|computed, masked\| c_mask_1_656d61696c/)
    // Every id that is drawn to or from is declared.
    const declared = new Set([...narrowed.matchAll(/^ {4}(c_\w+)\[/gm)].map(([, id]) => id))
    const drawn = [...narrowed.matchAll(/^ {2}(c_\w+) --.*?(c_\w+)$/gm)].flatMap(([, from, to]) => [from, to])
    expect(drawn.length).toBeGreaterThan(8)
    for (const id of drawn) expect(declared).toContain(id)
  })

  it('puts the figures of a run beside', async () => {
    expect((await print('--run', 'last')).exit).toBe(2)
    expect((await runCommand('run', Run, [job.file, '--state-dir', join(folder, 'state'), '--quiet'])).exit).toBe(0)
    const { figures, run } = await lineage('--run', 'last')
    expect(figures).toMatchObject({
      ads: { records: 3 },
      contract: { quarantined: 1 },
      filter_1: { filtered: 1 },
      warehouse: { loaded: 1 },
      sums: { loaded: 1 },
    })
    expect((await lineage('--run', run ?? '')).figures).toEqual(figures)
    const unknown = await print('--run', 'nothing')
    expect([unknown.exit, unknown.stderr]).toEqual([2, expect.stringContaining('has no such run')])
    expect(JSON.parse((await print('--format', 'json')).stdout)).toEqual(await lineage())
  })
})
