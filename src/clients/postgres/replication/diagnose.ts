/** A server as a source of changes, before a run reads them. */
import type { PoolClient } from 'pg'
import type { DiagnoseEnv, Diagnosis, Finding } from '../../../core/diagnosis.ts'
import { AdflowError } from '../../../core/errors.ts'
import type { Findings } from '../../../core/findings.ts'
import { diagnoseServer } from '../diagnose.ts'
import { explainSource } from '../errors.ts'
import type { ChangesOptions } from './changes-fetcher.ts'
import { lsnText } from './lsn.ts'
import {
  hasPublication,
  lagOf,
  requirePublishable,
  requireServer,
  requireSlot,
  requireTables,
  serverFacts,
  slotFacts,
} from './slot.ts'

/** A session for the slot, one for tables, one for questions. */
const CONNECTIONS = 3

export function diagnoseChanges(options: ChangesOptions, env: DiagnoseEnv): Diagnosis {
  return diagnoseServer(options, env, {
    writes: false,
    connections: CONNECTIONS,
    explain: explainSource,
    own: async (client, at) => [
      await permission(client, at),
      await publication(client, at, options),
      await slot(client, at, options),
    ],
  })
}

async function permission(client: PoolClient, at: Findings): Promise<Finding> {
  const facts = await serverFacts(client)
  return asked(at, 'permission', async () => {
    requireServer(facts)
    return at.ok('permission', `${facts.user} may read the log of changes, which has what is needed`)
  })
}

async function publication(
  client: PoolClient,
  at: Findings,
  { publication: name, tables, create }: ChangesOptions,
): Promise<Finding> {
  return asked(at, 'target', async () => {
    if (create && !(await hasPublication(client, name))) {
      await requirePublishable(client, tables)
      return at.ok('target', `would be made: the publication ${name}`)
    }
    await requireTables(client, name, tables)
    return at.ok('target', `the publication ${name} has the tables`)
  })
}

async function slot(
  client: PoolClient,
  at: Findings,
  { slot: name, create, max_slot_wal }: ChangesOptions,
): Promise<Finding> {
  const facts = await slotFacts(client, name)
  return asked(at, 'durability', async () => {
    if (facts === undefined) {
      if (create)
        return at.ok(
          'durability',
          `the replication slot ${name} is not there: a first run makes it, a later one has lost it`,
        )
      throw new AdflowError('SOURCE_MISSING', `there is no replication slot ${name}`, {
        hint: 'make it, or set `create: missing`',
      })
    }
    requireSlot(facts, name, lsnText(facts.confirmed))
    const lag = lagOf(facts, name, max_slot_wal)
    if (lag !== undefined)
      return at.warning('durability', lag, 'run the job, or drop the slot where nobody needs it any more')
    return at.ok('durability', `the replication slot ${name} is there, and what it keeps is within bounds`)
  })
}

async function asked(
  at: Findings,
  check: 'permission' | 'target' | 'durability',
  ask: () => Promise<Finding>,
): Promise<Finding> {
  try {
    return await ask()
  } catch (error) {
    if (!(error instanceof AdflowError)) throw error
    return at.failure(check, error)
  }
}
