/** The lineage of a job, for people: as tables, or as a Mermaid flow chart. */
import { type JobLineage, type LineageNode, shownPlace } from '../runtime/job-lineage.ts'
import { integer, table } from './table.ts'

export function lineageText(lineage: JobLineage): string {
  const nodes = table(
    ['node', 'kind', 'type', 'reads', 'data set', 'figures'].map((name) => ({ name })),
    lineage.nodes.map((node) => [
      node.id,
      node.kind,
      node.type,
      lineage.flows.flatMap(({ from, to }) => (to === node.id ? [from] : [])).join(', '),
      shownPlace(node),
      figuresOf(lineage, node).join(', '),
    ]),
  )
  return [nodes, lineage.column === null ? endsText(lineage) : edgesText(lineage)].join('\n\n')
}

/** Each column of a store or consumer, back to where it comes from. */
function endsText({ ends }: JobLineage): string {
  return table(
    ['store', 'column', 'type', 'made of', 'how', ''].map((name) => ({ name })),
    ends.flatMap(({ node, name, type, personal, from }) => {
      const mark = personal ? 'personal' : ''
      const [first = ['', ''], ...others] = from.map((origin): [string, string] => [
        `${origin.node}.${origin.column}`,
        howText(origin),
      ])
      return [[node, name, type, ...first, mark], ...others.map((other) => ['', '', '', ...other, ''])]
    }),
  )
}

/** One column on its way, step by step. */
function edgesText({ edges, nodes }: JobLineage): string {
  const personal = new Set(
    nodes.flatMap(({ id, columns }) => columns.flatMap((column) => (column.personal ? [`${id}.${column.name}`] : []))),
  )
  return table(
    ['from', 'to', 'how', 'by', ''].map((name) => ({ name })),
    edges.map(({ from, to, sql = '', ...edge }) => {
      const target = `${to.node}.${to.column}`
      const by = sql.replaceAll(/\s+/g, ' ')
      return [`${from.node}.${from.column}`, target, howText(edge), by, personal.has(target) ? 'personal' : '']
    }),
  )
}

function howText({ how, masked }: { readonly how: string; readonly masked: boolean }): string {
  return masked ? `${how}, masked` : how
}

/** Data sets and steps; with `--column` its columns as well. */
export function lineageMermaid(lineage: JobLineage): string {
  const lines = ['flowchart LR']
  const narrowed = lineage.column !== null
  for (const node of lineage.nodes) {
    if (narrowed) {
      lines.push(`  subgraph ${idOf(node.id)}["${labelOf(lineage, node)}"]`)
      for (const { name, personal } of node.columns)
        lines.push(`    ${idOf(node.id, name)}["${escaped(name)}"]${personal ? ':::personal' : ''}`)
      lines.push('  end')
    } else {
      const [open, close] = SHAPES[node.kind]
      const shows = node.columns.some(({ personal }) => personal) ? ':::personal' : ''
      lines.push(`  ${idOf(node.id)}${open}"${labelOf(lineage, node)}"${close}${shows}`)
    }
  }
  if (narrowed)
    for (const { from, to, how, masked } of lineage.edges) {
      const text = how === 'same' && !masked ? '-->' : `-->|${howText({ how, masked })}|`
      lines.push(`  ${idOf(from.node, from.column)} ${text} ${idOf(to.node, to.column)}`)
    }
  else for (const { from, to } of lineage.flows) lines.push(`  ${idOf(from)} --> ${idOf(to)}`)
  lines.push('  classDef personal stroke:#c00,stroke-width:3px')
  return lines.join('\n')
}

const SHAPES: Readonly<Record<LineageNode['kind'], readonly [string, string]>> = {
  source: ['[(', ')]'],
  reference: ['[(', ')]'],
  contract: ['[', ']'],
  step: ['[', ']'],
  store: ['[(', ')]'],
  consumer: ['([', '])'],
}

function labelOf(lineage: JobLineage, node: LineageNode): string {
  const what = node.kind === 'contract' ? node.id : `${node.id}: ${node.kind === 'step' ? node.type : node.kind}`
  const place = shownPlace(node)
  const personal = node.columns.filter((column) => column.personal).map(({ name }) => name)
  const lines = [
    what,
    ...(place === '' ? [] : [place]),
    ...(node.input === undefined || node.input === 'main' ? [] : [`rows of ${node.input}`]),
    ...(personal.length === 0 ? [] : [`personal: ${personal.join(', ')}`]),
    ...figuresOf(lineage, node),
  ]
  return lines.map(escaped).join('<br/>')
}

function figuresOf({ figures }: JobLineage, { id }: LineageNode): string[] {
  return Object.entries(figures[id] ?? {}).map(([what, n]) => `${integer(n)} ${what}`)
}

/** Ids may be words of Mermaid (`end`), and columns may hold any character. */
function idOf(node: string, column?: string): string {
  if (column === undefined) return `n_${node}`
  return `c_${node}_${Buffer.from(column.toLowerCase()).toString('hex')}`
}

/** In quotes every other character stands for itself. */
function escaped(text: string): string {
  return text.replaceAll('#', '#35;').replaceAll('"', '#quot;').replaceAll('<', '#lt;').replaceAll('>', '#gt;')
}
