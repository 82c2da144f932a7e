/** The job of a new project: ad events that \`adflow sample\` has made, with a little of everything that is wrong in practice. */
import { SCHEMA_LINE } from './job-text.ts'

export const TEMPLATE_ROWS = 2_000

export function templateJob(name: string, schema: string): string {
  return `${SCHEMA_LINE}${schema}
version: 1
name: ${name}
description: Ad events from files into an embedded warehouse.

extract:
  ad_server: { type: files, path: "../data/events-*" }

contract:
  columns:
    event_id: { type: bigint, required: true }
    event_type: { type: varchar, required: true }
    event_time: { type: timestamp, required: true }
    campaign_id: { type: bigint, required: true }
    user_id: { type: varchar, personal: true }
    cost_micros: { type: bigint, required: true }

validate:
  - { id: unknown_type, check: "event_type in ('impression', 'click', 'conversion')" }
  - { id: negative_cost, check: "cost_micros >= 0" }

transform:
  - dedupe: { key: [event_id], time: event_time, within: 7d }
  - derive: { spend: "cast(cost_micros as decimal(18, 0)) * 0.000001" }
  - mask: { user_id: hmac, key: "\${ADFLOW_MASK_KEY:-only for the sample data}" }

load:
  warehouse: { type: duckdb, path: ../warehouse.duckdb, table: events }

tests:
  - name: a good event is loaded, one of an unknown type is not
    given:
      ad_server:
        - { event_id: 1, event_type: click, event_time: "2026-03-01T10:00:00Z", campaign_id: 7, cost_micros: 4418 }
        - { event_id: 2, event_type: view, event_time: "2026-03-01T10:00:00Z", campaign_id: 7, cost_micros: 4418 }
    expect:
      warehouse: [{ event_id: 1, campaign_id: 7, cost_micros: 4418, spend: "0.004418" }]
      quarantine: [{ rule: unknown_type }]
`
}

export function readmeText(name: string): string {
  return `# ${name}

An [adflow](https://www.npmjs.com/package/adflow) project: \`jobs/${name}.yaml\` says what is read, what a record must look like,
what happens to it and where it goes.

\`\`\`sh
adflow lint                # every mistake in jobs/, at its line
adflow run --job ${name}
adflow query --job ${name} "from quarantine limit 5"
\`\`\`

Run it again: nothing is loaded twice. Add files or append to them: exactly the new records are loaded.
State, positions and quarantine are in \`jobs/.adflow\` (or where \`--state-dir\` says).
`
}

export const GITIGNORE = `.adflow/
*.duckdb
*.duckdb.wal
`
