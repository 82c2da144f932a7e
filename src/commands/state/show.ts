import { Args } from '@oclif/core'
import { BaseCommand } from '../../cli/base-command.ts'
import { AdflowError } from '../../core/errors.ts'
import type { Checkpoint } from '../../runtime/checkpoint-slot.ts'
import { openCheckpoints } from '../../runtime/checkpoints.ts'
import { stateDirOf } from '../../runtime/state-dir.ts'

export default class StateShow extends BaseCommand {
  static override summary = 'Print the checkpoint of a job as it is on disk.'
  static override examples = [
    '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml',
    '<%= config.bin %> <%= command.id %> quickstart --json',
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }

  async run(): Promise<{ schema_version: 1; state_dir: string; checkpoint: Checkpoint }> {
    const { args, flags } = await this.parse(StateShow)
    const job = await this.job(args.job)
    const { path } = stateDirOf(await this.currentStateDir(flags['state-dir'], job), job.name)
    const checkpoints = await openCheckpoints(path, job.name)
    if (checkpoints.fresh)
      throw new AdflowError('STATE_MISSING', `there is no checkpoint of job ${job.name} in ${path}`, {
        hint: 'the job has not run yet, or --state-dir names another folder',
      })
    if (checkpoints.fallback !== undefined)
      process.stderr.write(
        `slot ${checkpoints.fallback.slot} is damaged (${checkpoints.fallback.reason}); this is the other one\n`,
      )
    this.log(JSON.stringify(checkpoints.current, null, 2))
    return { schema_version: 1, state_dir: path, checkpoint: checkpoints.current }
  }
}
