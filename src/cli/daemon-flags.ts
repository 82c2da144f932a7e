/** What the commands of the daemon share. */
import { Flags } from '@oclif/core'
import { AdflowError } from '../core/errors.ts'
import { type DaemonClient, daemonClient } from '../daemon/client.ts'
import { resolveStateDir, sharedPlace } from '../runtime/state-dir.ts'

/** `127.0.0.1:9464`, `[::1]:0`, `:9464` for all addresses. @throws AdflowError USAGE */
export function parseListen(text: string): { readonly host: string; readonly port: number } {
  const [, bracketed, plain = '', digits = ''] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text) ?? []
  const port = Number(digits)
  if (digits === '' || port > 65_535)
    throw new AdflowError('USAGE', `\`${text}\`: expected an address and a port, such as 127.0.0.1:9464`)
  return { host: bracketed ?? (plain === '' ? '0.0.0.0' : plain), port }
}

export const tokenFlag = {
  'token-file': Flags.string({
    helpValue: 'FILE',
    env: 'ADFLOW_DAEMON_TOKEN_FILE',
    description:
      'File with the token of the API, readable by its owner alone. Else ADFLOW_DAEMON_TOKEN, or the one that was made up in the state directory.',
  }),
}

/** For commands that ask a daemon. */
export const clientFlags = {
  ...tokenFlag,
  url: Flags.string({
    helpValue: 'URL',
    description: 'Ask the daemon there. Default: the one that leads in the state directory.',
  }),
}

export const reasonFlag = {
  reason: Flags.string({ required: true, description: 'Why: kept in the audit of the daemon.' }),
}

/** The state directory is that of jobs in ./jobs, unless it is given. */
export function clientOf(flags: {
  readonly 'state-dir'?: string | undefined
  readonly 'token-file'?: string | undefined
  readonly url?: string | undefined
}): Promise<DaemonClient> {
  const { 'state-dir': stateDir, 'token-file': tokenFile, url } = flags
  const place = sharedPlace({ ...(stateDir === undefined ? {} : { flag: stateDir }), env: process.env })
  return daemonClient({
    place,
    stateDir: resolveStateDir({
      ...(stateDir === undefined ? {} : { flag: stateDir }),
      env: process.env,
      jobFile: 'jobs/any.yaml',
    }),
    env: process.env,
    ...(url === undefined ? {} : { url }),
    ...(tokenFile === undefined ? {} : { tokenFile }),
  })
}
