/** A certificate as one HTML page that needs nothing else. */
import type { Certificate } from '../trace/certificate.ts'
import { findingText, storeText } from './prove-text.ts'
import { integer } from './table.ts'

const NUMBERS = [
  'batches',
  'read',
  'loaded',
  'quarantined',
  'filtered',
  'deduplicated',
  'owed',
  'replaced',
  'unaccounted',
] as const

const STATUS: Readonly<Record<Certificate['status'], string>> = {
  proven: 'Proven: every record is accounted for, and every store holds what it was given.',
  differences: 'Differences: not everything is accounted for.',
  gaps: 'Gaps: the books close, but a part of a source is missing from them.',
}

const STYLE = `
:root { color-scheme: light dark; --line: #8884; --good: #1a7f37; --bad: #cf222e; --warn: #9a6700; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 84rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.status { border-left: .4rem solid; padding: .6rem 1rem; margin: 1.5rem 0; font-weight: 600; font-size: 1.1rem; }
.proven { border-color: var(--good); } .differences { border-color: var(--bad); } .gaps { border-color: var(--warn); }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
table { font-size: 13px; } th, td { text-align: left; padding: .35rem .5rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 600; white-space: nowrap; } .n { text-align: right; } .bad { color: var(--bad); font-weight: 600; }
tfoot td { font-weight: 600; border-top: 2px solid var(--line); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem; } dt { opacity: .7; } dd { margin: 0; }
code { overflow-wrap: anywhere; } small { opacity: .7; }`

export function provePage(certificate: Certificate): string {
  const { job, status, books, findings, gaps, window, unaccounted, stores } = certificate
  const facts: readonly (readonly [string, string])[] = [
    ['Job', `${escaped(job)} <small>digest ${certificate.job_digest.slice(0, 16)}…</small>`],
    ['Window', escaped(`${window.from ?? 'the beginning'} to ${window.to ?? 'now'}`)],
    ['Made', escaped(`${certificate.made_at} by adflow ${certificate.adflow}`)],
    ['Unaccounted', `<span class="${unaccounted === 0 ? '' : 'bad'}">${integer(unaccounted)}</span>`],
    [
      'Quarantine',
      `${integer(certificate.quarantine.records)} records in ${integer(certificate.quarantine.batches)} files, as the books say`,
    ],
    [
      'Ledger',
      `${integer(certificate.ledger.events)} events in ${integer(certificate.ledger.segments)} segments, hash chain whole; head <code>${certificate.ledger.head}</code>`,
    ],
  ]
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${escaped(job)}: ${status}</title>
<style>${STYLE}</style>
<h1>Certificate of ${escaped(job)}</h1>
<p class="status ${status}">${STATUS[status]}</p>
<dl>${facts.map(([name, value]) => `<dt>${name}</dt><dd>${value}</dd>`).join('\n')}</dl>
${list('What does not hold', findings.map(findingText))}
${list(
  'Could not be read',
  gaps.map(({ source, lane, from, message }) => `${source}, ${lane} from ${from}: ${message}`),
)}
<h2>Books</h2>
<p>read = loaded + quarantined + filtered + deduplicated + owed, for each source, lane and store.</p>
<div class="scroll"><table>
<thead><tr><th>source</th><th>lane</th><th>store</th>${NUMBERS.map((name) => `<th class="n">${name}</th>`).join('')}</tr></thead>
<tbody>
${books.map((line) => `<tr><td>${escaped(line.source)}</td><td>${escaped(line.lane)}</td><td>${escaped(line.store)}</td>${NUMBERS.map((name) => cell(name, line[name])).join('')}</tr>`).join('\n')}
</tbody>
${totals(books)}
</table></div>
${list('Stores', stores.map(storeText))}
<p><small>Rows of each batch were counted and digested in the stores, files by SHA-256, and compared with what the ledger noted when
they were written. Whether the ledger is still the same shows <code>adflow audit verify --head ${certificate.ledger.head}</code>.</small></p>
</html>
`
}

/** Per store: a record that goes into two stores stands in two lines. */
function totals(books: Certificate['books']): string {
  const lines = [...Map.groupBy(books, ({ store }) => store)].map(([store, own]) => {
    const sums = NUMBERS.map((name) =>
      cell(
        name,
        own.reduce((total, line) => total + line[name], 0),
      ),
    )
    return `<tr><td colspan="2">all</td><td>${escaped(store)}</td>${sums.join('')}</tr>`
  })
  return `<tfoot>\n${lines.join('\n')}\n</tfoot>`
}

function cell(name: (typeof NUMBERS)[number], value: number): string {
  return `<td class="n${name === 'unaccounted' && value > 0 ? ' bad' : ''}">${integer(value)}</td>`
}

function list(title: string, items: readonly string[]): string {
  if (items.length === 0) return ''
  return `<h2>${title}</h2>\n<ul>${items.map((item) => `<li>${escaped(item)}</li>`).join('\n')}</ul>`
}

function escaped(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;')
}
