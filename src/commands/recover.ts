import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { whoIsThis } from '../core/who.ts'
import { type Recovery, recoverJob } from '../runtime/recover.ts'

export default class Recover extends BaseCommand {
  static override summary = 'Rebuild the checkpoint of a job from what its stores remember.'
  static override description =
    `For a damaged or lost state directory. Asks every store for the batches it holds, puts each lane where all
stores have everything, and plans again the ranges that only some have: they refuse what they hold already. Damaged slots are kept aside.`
  static override examples = [
    {
      description: 'Say what would be written',
      command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --dry-run',
    },
    { description: 'Do it', command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml' },
  ]
  static override args = {
    job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
  }
  static override flags = {
    'dry-run': Flags.boolean({ description: 'Only say what would be written.' }),
    force: Flags.boolean({ description: 'Rebuild although the checkpoint is readable.' }),
  }

  async run(): Promise<Recovery> {
    const { args, flags } = await this.parse(Recover)
    const job = await this.job(args.job)
    const recovery = await recoverJob({
      job,
      registry: await this.registry(),
      stateDir: this.stateDir(flags['state-dir'], job),
      log: this.logger(flags),
      command: this.commandLine,
      version: this.config.version,
      dryRun: flags['dry-run'],
      force: flags.force,
      who: whoIsThis(),
    })
    const verb = recovery.written ? 'rebuilt' : 'would rebuild'
    this.log(
      `${verb} the positions of ${recovery.job} from ${recovery.batches} batches in ${recovery.stores.join(', ')}`,
    )
    for (const [source, lanes] of Object.entries(recovery.positions))
      for (const [lane, at] of Object.entries(lanes)) this.log(`  ${source}  ${lane}  ${at}`)
    if (recovery.planned > 0) this.log(`${recovery.planned} ranges that not every store has are planned again`)
    for (const { source, lane, from, to } of recovery.holes)
      this.log(`  no store has ${source}  ${lane}  [${from}, ${to}): it is among them`)
    for (const slot of recovery.aside) this.log(`kept aside: ${slot}`)
    return recovery
  }
}
