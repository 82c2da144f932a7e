import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { integer } from '../../cli/table.ts'
import { type AuditVerification, verifyAudit } from '../../runtime/audit-verify.ts'

export default class AuditVerify extends BaseCommand {
  static override summary = 'Walk the hash chain of the ledger: it holds, or the first place where it does not.'
  static override description =
    `Every event of the ledger is chained to the one before by a hash. A changed byte, a line or a segment that is missing,
doubled or moved is named with segment, line and byte (exit 78). The chain alone cannot show that its newest events were cut off, or that
all of it was written anew: note its head elsewhere and compare with --head. The head that the checkpoint noted last is compared as well.
Reads only, and may stand beside a running job.`
  static override examples = [
    { description: 'Does it hold?', command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml' },
    {
      description: 'The head, to be noted elsewhere',
      command: '<%= config.bin %> <%= command.id %> quickstart --json',
    },
    {
      description: 'Compare with a head that was noted',
      command:
        '<%= config.bin %> <%= command.id %> quickstart --head 42:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08',
    },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    head: Flags.string({
      helpValue: 'HEAD',
      description:
        'A head that was noted elsewhere, `<number>:<hash>` or the hash alone: the chain must hold this event.',
    }),
  }

  async run(): Promise<AuditVerification> {
    const { args, flags } = await this.parse(AuditVerify)
    const job = await this.job(args.job)
    const result = await verifyAudit(job, await this.currentStateDir(flags['state-dir'], job), flags.head)
    const { events, segments, head, torn, compared_with } = result
    this.log(
      `✔ ${result.job}: the hash chain holds over ${integer(events)} events in ${integer(segments)} ${segments === 1 ? 'segment' : 'segments'}`,
    )
    this.log(`head ${head}`)
    if (torn !== null)
      this.log(
        `the last line (${integer(torn.bytes)} bytes at byte ${torn.byte} of ${torn.segment}) is unfinished: a run is writing it, or a crash cut it off`,
      )
    if (compared_with.head === null)
      this.log('that its end was not cut off shows only a head that was noted elsewhere: see --head')
    return result
  }
}
