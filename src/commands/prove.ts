import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { parseModified } from '../cli/modified.ts'
import { provePage } from '../cli/prove-page.ts'
import { proveText } from '../cli/prove-text.ts'
import { writeDurably } from '../core/durable.ts'
import type { Certificate } from '../trace/certificate.ts'
import { prove } from '../trace/prove.ts'

export default class Prove extends BaseCommand {
  static override summary = 'Close the books of a window against the stores themselves, and give a certificate.'
  static override description =
    `read = loaded + quarantined + filtered + deduplicated + owed, for each source, lane and store. The stores are looked at: rows
of each batch are counted and digested (files by SHA-256) and compared with what the ledger noted when they were written; rows
that later batches of a merge replaced are accounted for. The quarantine, the spool and the hash chain of the ledger are compared
too. Anything that does not hold is named with stage, source, lane, range, batch and store. Reads only.
Exit 0: proven. 11: differences. 65: a part of a source was never read. The head of the ledger is in the certificate:
\`adflow audit verify --head\` shows later whether the ledger is still the same.`
  static override examples = [
    { description: 'Everything so far', command: '<%= config.bin %> <%= command.id %> quickstart' },
    {
      description: 'One day, as a page for the auditor',
      command: '<%= config.bin %> <%= command.id %> quickstart --from 2026-03-01 --to 2026-03-02 --html proof.html',
    },
    {
      description: 'The last day, for a program',
      command: '<%= config.bin %> <%= command.id %> quickstart --from 24h --json',
    },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    from: Flags.string({
      helpValue: 'TIME',
      description: 'Batches planned at or after this time, or this long ago (24h).',
    }),
    to: Flags.string({ helpValue: 'TIME', description: 'Batches planned before this time.' }),
    html: Flags.string({ helpValue: 'FILE', description: 'Writes the certificate as a page, too.' }),
  }

  async run(): Promise<Certificate> {
    const { args, flags } = await this.parse(Prove)
    const job = await this.job(args.job)
    const certificate = await prove({
      job,
      registry: await this.registry(),
      stateDir: await this.currentStateDir(flags['state-dir'], job),
      log: this.logger(flags),
      version: this.config.version,
      ...parseModified(flags.from, flags.to).modified,
    })
    if (flags.html !== undefined) await writeDurably(flags.html, provePage(certificate))
    this.log(proveText(certificate))
    process.exitCode = certificate.exit
    return certificate
  }
}
