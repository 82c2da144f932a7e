/** What every command shares: state directory, logs, errors with exit codes, JSON output. */
import { Command, Errors, Flags, type Interfaces } from '@oclif/core'
import type { Logger } from 'pino'
import { AdflowError, ERROR_CODES, type ErrorCode } from '../core/errors.ts'
import { findJob } from '../core/job/find.ts'
import type { Job } from '../core/job/job.ts'
import { loadJob } from '../core/job/load.ts'
import { redact, redactAll } from '../core/job/secrets.ts'
import { loadRegistry, type Registry } from '../core/registry.ts'
import type { StatePlace } from '../core/state-place.ts'
import { fetchState } from '../runtime/hold.ts'
import { resolveStateDir, sharedPlace, workingDir } from '../runtime/state-dir.ts'
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
      helpValue: 'DIR|URL',
      description:
        'Where checkpoints, ledger and spool live: a folder, or `postgres://user@host/database` where several machines share them. Default: $STATE_DIRECTORY, $XDG_STATE_HOME/adflow, or .adflow beside the job file.',
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
  #place: StatePlace | undefined

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
    return this.placed(await loadJob(found, { registry: await this.registry() }))
  }

  /** Where the command line says that state is shared. */
  get place(): StatePlace | undefined {
    return this.#place
  }

  /** With its state where the command line says; what the job says counts more. */
  placed(job: Job): Job {
    const state = job.state ?? this.#place
    return state === undefined ? job : { ...job, state }
  }

  /** Folder in which the folder of the job is, on this machine. For commands that hold the job. */
  stateDir(flag: string | undefined, job: Job): string {
    const root = resolveStateDir({ ...(flag === undefined ? {} : { flag }), env: process.env, jobFile: job.file })
    return workingDir(root, job.state)
  }

  /** The same, as new as it is anywhere. For commands that look before they hold the job, or do not hold it at all. */
  async currentStateDir(flag: string | undefined, job: Job): Promise<string> {
    const stateDir = this.stateDir(flag, job)
    await fetchState(job, stateDir)
    return stateDir
  }

  protected override async parse<
    F extends Interfaces.OutputFlags<F>,
    B extends Interfaces.OutputFlags<B>,
    A extends Interfaces.OutputArgs<A>,
  >(options?: Interfaces.Input<F, B, A>, argv?: string[]): Promise<Interfaces.ParserOutput<F, B, A>> {
    const parsed = await super.parse<F, B, A>(options, argv)
    const flag = (parsed.flags as { readonly 'state-dir'?: string })['state-dir']
    this.#place = sharedPlace({ ...(flag === undefined ? {} : { flag }), env: process.env })
    return parsed
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
