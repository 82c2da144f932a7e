/** What others push over HTTP: the gateway keeps it in a journal, and this reads the journal. */
import { diagnosePush } from '../clients/push/diagnose.ts'
import { JournalFetcher } from '../clients/push/journal-fetcher.ts'
import { journalFolder, pushOptions } from '../clients/push/options.ts'
import { stagedExtractor } from '../clients/staging/staged-extractor.ts'
import { defineExtractor } from '../core/define.ts'

export default defineExtractor({
  summary: 'Events that others push over HTTP, each answered for only once it is on the disk.',
  description: `Receiving and loading are apart. The gateway, \`adflow serve-push\` or \`adflow daemon --push\`, takes
\`POST /push/JOB/SOURCE/LANE\` and appends what it accepts to a journal on disk; it answers 202 when that is synced. A run of the
job reads the journal from the place of its checkpoint to what is there when it begins, whether a gateway runs or not. The
gateway removes what a checkpoint has. Neither waits for the other, and either may be killed at any time.

A lane that is taken out of \`lanes\` takes nothing more, and what it has is still loaded.

Bytes are those of the client: integers and decimals never pass through a number of JavaScript. Line ends between the tokens of an event
become spaces.

Who pushes what, answers, idempotency keys, limits, and what a kill leaves: see [push.md](../push.md).`,
  options: pushOptions,
  example: {
    tokens: [
      { name: 'web', token: '${PUSH_TOKEN_WEB:-a-token-of-thirty-two-characters-or-more}', events_per_second: 20_000 },
      {
        name: 'partner',
        token: '${PUSH_TOKEN_PARTNER:-another-token-of-thirty-two-characters}',
        bytes_per_second: '2MB',
      },
    ],
    idempotency: { window: '6h' },
  },
  silenceMs: () => Number.POSITIVE_INFINITY,
  diagnose: (options, env) => diagnosePush(options, env),
  create: (options, env) =>
    stagedExtractor(
      new JournalFetcher({
        job: env.job,
        source: env.id,
        folder: journalFolder(options, env.stageDir, env.baseDir),
        lanes: options.lanes,
      }),
      env,
      { staging: options.staging, pollMs: options.poll },
    ),
})
