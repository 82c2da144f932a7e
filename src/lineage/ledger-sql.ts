/** The ledger as tables: SQL for the engine. Everything that status, lineage and audit tell is a query over these views. */

/** View column → where it stands in the event and its type. SQL words (at, from, to) are renamed. */
const COLUMNS = {
  seq: ['seq', 'BIGINT'],
  time: ['at', 'TIMESTAMP'],
  type: ['type', 'VARCHAR'],
  run: ['run', 'VARCHAR'],
  job: ['job', 'VARCHAR'],
  command: ['command', 'VARCHAR'],
  version: ['version', 'VARCHAR'],
  epoch: ['epoch', 'BIGINT'],
  pin: ['pin', 'VARCHAR'],
  status: ['status', 'VARCHAR'],
  exit: ['exit', 'INTEGER'],
  code: ['code', 'VARCHAR'],
  message: ['message', 'VARCHAR'],
  token: ['token', 'VARCHAR'],
  sequence: ['sequence', 'BIGINT'],
  source: ['source', 'VARCHAR'],
  lane: ['lane', 'VARCHAR'],
  range_from: ['from', 'HUGEINT'],
  range_to: ['to', 'HUGEINT'],
  state: ['state', 'VARCHAR'],
  before_state: ['before_state', 'VARCHAR'],
  origin: ['origin', 'VARCHAR'],
  digest: ['digest', 'VARCHAR'],
  bytes: ['bytes', 'BIGINT'],
  clock: ['clock', 'VARCHAR'],
  mark: ['mark', 'VARCHAR'],
  references: ['references', 'MAP(VARCHAR, VARCHAR)'],
  counts: [
    'counts',
    'STRUCT("read" BIGINT, quarantined MAP(VARCHAR, BIGINT), filtered MAP(VARCHAR, BIGINT), deduplicated BIGINT, warned MAP(VARCHAR, BIGINT))',
  ],
  sums: ['sums', 'STRUCT("read" HUGEINT, quarantined HUGEINT, filtered HUGEINT, deduplicated HUGEINT, "out" HUGEINT)'],
  stores: [
    'stores',
    'MAP(VARCHAR, STRUCT("rows" BIGINT, status VARCHAR, outputs VARCHAR[], token VARCHAR, content JSON))',
  ],
  unaccounted: ['unaccounted', 'BIGINT'],
  loader: ['loader', 'VARCHAR'],
  backfill: ['backfill', 'VARCHAR'],
  rows: ['rows', 'BIGINT'],
  content: ['content', 'JSON'],
  consumer: ['consumer', 'VARCHAR'],
  delivered: ['delivered', 'BIGINT'],
  dead: ['dead', 'BIGINT'],
  rule: ['rule', 'VARCHAR'],
  who: ['who', 'VARCHAR'],
  what: ['what', 'VARCHAR'],
  before: ['before', 'JSON'],
  after: ['after', 'JSON'],
  slot: ['slot', 'VARCHAR'],
  reason: ['reason', 'VARCHAR'],
  generation: ['generation', 'BIGINT'],
  prev: ['prev', 'VARCHAR'],
  hash: ['hash', 'VARCHAR'],
} as const satisfies Readonly<Record<string, readonly [string, string]>>

/** A SELECT of all events of the given segment files (paths or globs); of no events where there are none. */
export function ledgerSelect(files: readonly string[]): string {
  const columns = Object.entries(COLUMNS)
  if (files.length === 0) return `${eachColumn('NULL')} WHERE false`
  const renamed = columns.map(([name, [field]]) => `"${field}" AS "${name}"`)
  const types = columns.map(([, [field, type]]) => `${text(field)}: ${text(type)}`)
  // Reads while a run writes, and after a crash: an unfinished last line becomes a row of NULLs and is left out. No
  // other line can fail to parse, or the hash chain would not hold either; `verifyLedger` is what finds that.
  return `SELECT ${renamed.join(', ')} FROM read_json([${files.map(text).join(', ')}], format = 'newline_delimited',
  ignore_errors = true, maximum_object_size = ${MAX_EVENT_BYTES}, columns = {${types.join(', ')}})
  WHERE seq IS NOT NULL`
}

/** One row in which every column is this value. */
function eachColumn(value: string): string {
  return `SELECT ${Object.entries(COLUMNS)
    .map(([name, [, type]]) => `${value}::${type} AS "${name}"`)
    .join(', ')}`
}

const MAX_EVENT_BYTES = 64 * 1024 * 1024

/** Every event as it was written, whatever its type: for what the columns of `ledger` do not show. */
function eventsSelect(files: readonly string[]): string {
  if (files.length === 0) return `${eachEventColumn('NULL')} WHERE false`
  return `SELECT (json->>'seq')::BIGINT AS seq, (json->>'at')::TIMESTAMP AS time, json->>'type' AS type, json->>'run' AS run,
  json->>'who' AS who, json AS event
  FROM read_json_objects([${files.map(text).join(', ')}], format = 'newline_delimited', ignore_errors = true,
  maximum_object_size = ${MAX_EVENT_BYTES}) WHERE json->>'seq' IS NOT NULL`
}

function eachEventColumn(value: string): string {
  return `SELECT ${value}::BIGINT AS seq, ${value}::TIMESTAMP AS time, ${value}::VARCHAR AS type, ${value}::VARCHAR AS run,
  ${value}::VARCHAR AS who, ${value}::JSON AS event`
}

/** Statements that make the views `ledger`, `audit`, `runs`, `batches`, `gaps` and `conservation`, in order. */
export function ledgerViews(files: readonly string[]): readonly string[] {
  return viewsOver(ledgerSelect(files), eventsSelect(files))
}

/** The same views over a ledger that cannot be believed: whoever asks them gets this message as an error of the engine. */
export function ledgerRaises(message: string): readonly string[] {
  const raise = `error(${text(message)})`
  // In the columns as well: a condition on a column that is always NULL would be decided without asking.
  const never = `FROM range(1) WHERE ${raise} IS NULL`
  return viewsOver(`${eachColumn(raise)} ${never}`, `${eachEventColumn(raise)} ${never}`)
}

function viewsOver(ledger: string, events: string): readonly string[] {
  return [
    view('ledger', ledger),
    view('audit', events),
    view('batches', BATCHES),
    view('runs', RUNS),
    view('gaps', GAPS),
    view('conservation', CONSERVATION),
  ]
}

/** One row per batch: its books as they were closed last. A batch repeated after a crash is the same batch. `_batch` is the number
 *  that loaders write beside the rows of the main output (core/token.ts).
 *  A store that came into the job later, and got the batch by a backfill, is among its stores. */
const BATCHES = `
SELECT token, TRY_CAST('0x' || token[1:16] AS UBIGINT)::BIT::BIGINT AS _batch, sequence, source, lane, range_from, range_to, origin, digest, bytes, clock, mark, "references", counts."read" AS "read",
  coalesce(list_sum(map_values(counts.quarantined)), 0)::BIGINT AS quarantined,
  coalesce(list_sum(map_values(counts.filtered)), 0)::BIGINT AS filtered,
  counts.deduplicated AS deduplicated,
  counts."read" - quarantined - filtered - counts.deduplicated - unaccounted AS "out",
  unaccounted, counts, sums, CASE WHEN len(brought) > 0 THEN map_concat(list_reduce(brought, lambda a, b: map_concat(a, b)), stores) ELSE stores END AS stores,
  run, time AS closed_at, seq
FROM (SELECT *, list(stores) FILTER (WHERE type = 'batch_restored') OVER (PARTITION BY token) AS brought
  FROM ledger WHERE type IN ('batch_closed', 'batch_restored')) WHERE type = 'batch_closed'
QUALIFY row_number() OVER (PARTITION BY token ORDER BY seq DESC) = 1`

/** One row per run, with what it closed. A run without an end is going on, or was killed. */
const RUNS = `
SELECT s.run, s.job, s.command, s.who, s.version, s.epoch, s.pin, s.time AS started_at, e.time AS ended_at,
  coalesce(e.status, 'unfinished') AS status, e.exit, e.code, e.message,
  coalesce(b.batches, 0) AS batches, coalesce(b."read", 0)::BIGINT AS "read"
FROM (FROM ledger WHERE type = 'run_started') s
LEFT JOIN (FROM ledger WHERE type = 'run_ended' QUALIFY row_number() OVER (PARTITION BY run ORDER BY seq DESC) = 1) e
  ON e.run = s.run
LEFT JOIN (SELECT run, count(*) AS batches, sum(counts."read") AS "read" FROM (FROM ledger WHERE type = 'batch_closed'
  QUALIFY row_number() OVER (PARTITION BY run, token ORDER BY seq DESC) = 1) GROUP BY run) b ON b.run = s.run
ORDER BY s.seq`

/** One row per place where a source could not be read: the last time. It is open until it is closed, or a later batch covers it. `since` is when
 *  it was booked first, `times` how often. */
const GAPS = `
WITH told AS (
  SELECT *, count(*) FILTER (WHERE type = 'gap_closed') OVER (PARTITION BY source, lane, range_from
    ORDER BY seq ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS episode
  FROM ledger WHERE type IN ('gap', 'gap_closed')
), places AS (
  SELECT source, lane, range_from, episode, max(seq) FILTER (WHERE type = 'gap') AS seq,
    min(time) FILTER (WHERE type = 'gap') AS since, count(*) FILTER (WHERE type = 'gap') AS times,
    max(time) FILTER (WHERE type = 'gap_closed') AS closed_at
  FROM told GROUP BY source, lane, range_from, episode HAVING count(*) FILTER (WHERE type = 'gap') > 0
  QUALIFY row_number() OVER (PARTITION BY source, lane, range_from ORDER BY episode DESC) = 1
)
SELECT g.source, g.lane, g.range_from, g.range_to, g.code, g.message, g.run, g.time AS booked_at, p.since, p.times,
  p.closed_at, p.closed_at IS NULL AND NOT EXISTS (SELECT 1 FROM ledger c
    WHERE c.type IN ('batch_closed', 'batch_restored') AND c.seq > g.seq AND c.source = g.source AND c.lane = g.lane
    AND c.range_from <= g.range_from AND c.range_to > g.range_from) AS open
FROM places p JOIN ledger g ON g.seq = p.seq
ORDER BY g.seq`

/** read = loaded + owed + quarantined + filtered + deduplicated + unaccounted, per source, lane and store. `balance` is what is
 *  left of that equation: 0, or a fault. It fits stores that take the main output, row by row. */
const CONSERVATION = `
WITH outcomes AS (
  SELECT token, unnest(map_entries(stores)) AS store FROM batches
), placed AS (
  SELECT o.token, o.store."key" AS store, o.store."value"."rows" AS "rows",
    o.store."value".status = 'owed' AND p.token IS NULL AS owed
  FROM outcomes o LEFT JOIN (SELECT DISTINCT token, loader FROM ledger WHERE type = 'store_paid') p
    ON p.token = o.token AND p.loader = o.store."key"
)
SELECT b.source, b.lane, p.store, count(*) AS batches, sum(b."read")::BIGINT AS "read",
  coalesce(sum(p."rows") FILTER (WHERE NOT p.owed), 0)::BIGINT AS loaded,
  sum(b.quarantined)::BIGINT AS quarantined, sum(b.filtered)::BIGINT AS filtered,
  sum(b.deduplicated)::BIGINT AS deduplicated,
  coalesce(sum(p."rows") FILTER (WHERE p.owed), 0)::BIGINT AS owed,
  sum(b.unaccounted)::BIGINT AS unaccounted,
  sum(b."read" - b.quarantined - b.filtered - b.deduplicated - b.unaccounted - p."rows")::BIGINT AS balance
FROM batches b JOIN placed p ON p.token = b.token
GROUP BY b.source, b.lane, p.store ORDER BY b.source, b.lane, p.store`

function view(name: string, select: string): string {
  return `CREATE OR REPLACE VIEW ${name} AS ${select.trim()}`
}

function text(value: string): string {
  return `'${value.replaceAll("'", "''")}'`
}
