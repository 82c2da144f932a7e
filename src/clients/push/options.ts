/** Options of a source that is pushed to: the gateway and the job read the same ones. */
import { isAbsolute, join, resolve } from 'node:path'
import { z } from 'zod'
import { byteSize, duration } from '../../core/job/units.ts'
import { stagingOptions } from '../staging/options.ts'

const SHORTEST_TOKEN = 32
const name = z.string().regex(/^[a-z][a-z0-9_]{0,62}$/, 'expected a lower-case letter, then letters, digits and `_`')

const token = z
  .strictObject({
    name: name.describe('Who pushes with it: for logs, and idempotency keys are apart by it.'),
    token: z
      .string()
      .min(SHORTEST_TOKEN, `a token has ${SHORTEST_TOKEN} characters at least: openssl rand -base64 32`)
      .describe('What `Authorization: Bearer …` must carry: `${file:…}` or `${VARIABLE}`.'),
    events_per_second: z.number().positive().optional().describe('Events that it may push in a second, on average.'),
    bytes_per_second: byteSize.optional().describe('Bytes of bodies, as they are sent, on average.'),
  })
  .describe('One of those that may push.')

export const pushOptions = z
  .strictObject({
    tokens: z
      .array(token)
      .default([])
      .describe('Who may push. Without any everybody may who reaches the gateway: it listens on loopback only then.'),
    lanes: z
      .array(name)
      .min(1)
      .default(['events'])
      .describe(
        'Parts that are kept in order, each by itself, and are loaded at the same time. Each has an address of its own.',
      ),
    journal: z
      .string()
      .min(1)
      .optional()
      .describe('Folder in which the gateway keeps what it has accepted. Default: in the state directory of the job.'),
    max_body: byteSize.prefault('8MiB').describe('Most bytes of a body, decompressed and not; beyond it 413.'),
    max_events: z.int().min(1).max(100_000).default(10_000).describe('Most events of a body; beyond it 413.'),
    max_event: byteSize.prefault('1MiB').describe('Most bytes of one event; a longer one is refused and named.'),
    max_pending: byteSize
      .prefault('10GiB')
      .describe(
        'Most bytes of a lane that are accepted and not loaded yet; beyond it 429, until the job has loaded some.',
      ),
    idempotency: z
      .strictObject({
        window: duration.prefault('1h').describe('How long a key is known after its request was accepted.'),
        max_keys: z
          .int()
          .positive()
          .default(1_000_000)
          .describe('Most keys that are known of a lane, at about 120 bytes of memory each; beyond it 429.'),
      })
      .prefault({})
      .describe('The same `Idempotency-Key` with the same body gives the same receipt, and nothing is stored again.'),
    poll: duration.prefault('1s').describe('How often a job that runs for ever looks for more.'),
    staging: stagingOptions.prefault({}),
  })
  .superRefine(({ tokens, lanes }, context) => {
    const twice = (values: readonly string[], path: string, what: string) => {
      if (new Set(values).size < values.length) context.addIssue({ code: 'custom', path: [path], message: what })
    }
    twice(
      tokens.map((each) => each.name),
      'tokens',
      'two tokens have the same name',
    )
    twice(
      tokens.map((each) => each.token),
      'tokens',
      'two names have the same token',
    )
    twice(lanes, 'lanes', 'a lane is named twice')
  })

export type PushOptions = z.infer<typeof pushOptions>

/** Has a folder for each lane. `stageDir`: that of the source in the state of its job. */
export function journalFolder({ journal }: Pick<PushOptions, 'journal'>, stageDir: string, baseDir: string): string {
  if (journal === undefined) return join(stageDir, '_pushed')
  return isAbsolute(journal) ? journal : resolve(baseDir, journal)
}
