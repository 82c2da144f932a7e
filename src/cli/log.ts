/** Logs go to stderr: text for people, JSON lines for collectors. Secrets are redacted in every line. */
import { createRequire } from 'node:module'
import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino'
import type { PrettyStream } from 'pino-pretty'
import { redact } from '../core/job/secrets.ts'

const require = createRequire(import.meta.url)

export const LOG_LEVELS = ['debug', 'info', 'warn', 'error', 'silent'] as const

export interface LogOptions {
  readonly level: (typeof LOG_LEVELS)[number]
  readonly format: 'text' | 'json'
}

export function createLog({ level, format }: LogOptions): Logger {
  const raw: DestinationStream = { write: (line) => void process.stderr.write(redact(line)) }
  const colorize = process.stderr.isTTY === true && process.env['NO_COLOR'] === undefined
  let pretty: PrettyStream | undefined
  // Loaded with the first line: most runs log none, and it is a good part of what the CLI loads.
  const build = () =>
    (require('pino-pretty') as typeof import('pino-pretty')).build({
      colorize,
      destination: 2,
      sync: true,
      translateTime: 'SYS:HH:MM:ss',
      ignore: 'pid,hostname',
      hideObject: level !== 'debug',
    })
  const text: DestinationStream = {
    write: (line) => {
      pretty ??= build()
      pretty.write(redact(line))
    },
  }
  return pino(
    {
      level,
      base: null,
      messageKey: 'msg',
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    format === 'json' ? raw : text,
  )
}
