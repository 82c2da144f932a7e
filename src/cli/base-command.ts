/** What every command shares: state directory, logs, errors with exit codes, JSON output. */
import { Command, Errors, Flags } from '@oclif/core'
import type { Logger } from 'pino'
import { AdflowError, ERROR_CODES, type ErrorCode } from '../core/errors.ts'
import { findJob } from '../core/job/find.ts'
import type { Job } from '../core/job/job.ts'
import { loadJob } from '../core/job/load.ts'
import { redact, redactAll } from '../core/job/secrets.ts'
import { loadRegistry, type Registry } from '../core/registry.ts'
import { resolveStateDir } from '../runtime/state-dir.ts'
import { createLog, LOG_LEVELS } from './log.ts'

export interface ErrorJson {
  readonly schema_version: 1
  readonly error: {
    readonly code: ErrorCode
    readonly message: string
    readonly hint?: string
    readonly details?: unknown
  }
}

export abstract class BaseCommand extends Command {
  static override enableJsonFlag = true
  static override baseFlags = {
    'state-dir': Flags.string({
      env: 'ADFLOW_STATE_DIR',
      helpGroup: 'GLOBAL',
      helpValue: 'DIR',
      description:
        'Where checkpoints, ledger and spool live. Default: $STATE_DIRECTORY, $XDG_STATE_HOME/adflow, or .adflow beside the job file.',
    }),
    'log-level': Flags.option({
      options: LOG_LEVELS,
      env: 'ADFLOW_LOG_LEVEL',
      default: 'warn',
      helpGroup: 'GLOBAL',
      description: 'What is logged to stderr.',
    })(),
    'log-format': Flags.option({
      options: ['text', 'json'] as const,
      env: 'ADFLOW_LOG_FORMAT',
      default: 'text',
      helpGroup: 'GLOBAL',
      description: 'Text for people, or JSON lines.',
    })(),
  }

  #registry: Promise<Registry> | undefined

  /** Component definitions, found by file name. */
  registry(): Promise<Registry> {
    this.#registry ??= loadRegistry()
    return this.#registry
  }

  /** Reads the job file at a path, or of a name in ./jobs. */
  async job(pathOrName: string | undefined, name?: string): Promise<Job> {
    const found = await findJob({
      ...(pathOrName === undefined ? {} : { path: pathOrName }),
      ...(name === undefined ? {} : { name }),
      cwd: process.cwd(),
    })
    return loadJob(found, { registry: await this.registry() })
  }

  stateDir(flag: string | undefined, job: Job): string {
    return resolveStateDir({ ...(flag === undefined ? {} : { flag }), env: process.env, jobFile: job.file })
  }

  logger(flags: { readonly 'log-level': (typeof LOG_LEVELS)[number]; readonly 'log-format': 'text' | 'json' }): Logger {
    return createLog({ level: flags['log-level'], format: flags['log-format'] })
  }

  /** The command as it was typed, for the ledger. */
  get commandLine(): string {
    return redact(['adflow', ...(this.id ?? '').split(':'), ...this.argv].join(' '))
  }

  protected override async catch(error: Error & { exitCode?: number }): Promise<unknown> {
    if (!(error instanceof AdflowError)) return super.catch(error)
    process.exitCode = error.exit
    if (this.jsonEnabled()) {
      this.logJson(this.toErrorJson(error))
      return
    }
    process.stderr.write(`${redact(errorText(error))}\n`)
  }

  protected override toErrorJson(error: unknown): ErrorJson {
    const known = error instanceof AdflowError ? error : undefined
    // What oclif refuses is a mistake of whoever typed it; anything else that nobody has foreseen is a defect.
    const code = known?.code ?? (error instanceof Errors.CLIError ? 'USAGE' : 'UNEXPECTED')
    return {
      schema_version: 1,
      error: {
        code,
        message: redact(error instanceof Error ? error.message : String(error)),
        ...(known?.hint === undefined ? {} : { hint: redact(known.hint) }),
        ...(known?.details === undefined ? {} : { details: redactAll(known.details) }),
      },
    }
  }
}

export function errorText(error: AdflowError): string {
  const hint = error.hint === undefined ? '' : `\n  → ${error.hint}`
  return `error ${error.code}: ${error.message}${hint}\n  (exit ${ERROR_CODES[error.code].exit}; docs/errors.md#${error.code.toLowerCase()})`
}
