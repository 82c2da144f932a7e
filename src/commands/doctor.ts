import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { doctorText } from '../cli/doctor-text.ts'
import { AdflowError, ERROR_CODES, EXIT } from '../core/errors.ts'
import { findJob } from '../core/job/find.ts'
import { parseDuration } from '../core/job/units.ts'
import { diagnoseDaemon } from '../daemon/diagnose.ts'
import { type DoctorReport, diagnose } from '../runtime/doctor.ts'
import { resolveStateDir, workingDir } from '../runtime/state-dir.ts'

export default class Doctor extends BaseCommand {
  static override summary = 'Whether a job could run here and now: machine, job, state, and every system that it names.'
  static override description =
    `Asks all systems at once: whether they can be reached with the credentials of the job, their version, what the user may do, what
would be made, clocks, free space. Changes nothing, neither there nor here, takes no lock and shows no secret. Each finding that is
not well says how to mend it. The exit code is that of a run that would fail: of several, what a person must mend comes first (78, 77, 74,
65, 69, 75). Exit 0 with warnings, unless --strict.`
  static override examples = [
    { description: 'The only job in ./jobs', command: '<%= config.bin %> <%= command.id %>' },
    {
      description: 'Before a deployment: warnings count, slow systems have half a minute',
      command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --strict --timeout 30s',
    },
    { description: 'As JSON', command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --json' },
  ]
  static override args = { job: Args.string({ description: 'Job file, or the name of a job in ./jobs.' }) }
  static override flags = {
    strict: Flags.boolean({ description: 'Exit 10 when there are warnings and nothing has failed.' }),
    timeout: Flags.string({
      default: '10s',
      helpValue: 'DURATION',
      description: 'How long each system may take for all that it is asked.',
    }),
  }

  async run(): Promise<DoctorReport> {
    const { args, flags } = await this.parse(Doctor)
    const timeoutMs = parseDuration(flags.timeout)
    if (timeoutMs === undefined || timeoutMs === 0)
      throw new AdflowError('USAGE', `--timeout ${flags.timeout} is no duration`, { hint: 'such as 5s or 1m' })
    const file = await findJob({ ...(args.job === undefined ? {} : { path: args.job }), cwd: process.cwd() })
    const stateFlag = flags['state-dir']
    const stateDir = resolveStateDir({
      ...(stateFlag === undefined ? {} : { flag: stateFlag }),
      env: process.env,
      jobFile: file,
    })
    const report = await diagnose({
      file,
      registry: await this.registry(),
      log: this.logger(flags),
      placed: (job) => this.placed(job),
      stateDir: (job) => workingDir(stateDir, job.state),
      timeoutMs,
      also: [
        {
          kind: 'daemon',
          component: null,
          type: null,
          question: { place: stateDir, code: 'LOCAL_IO', ask: () => diagnoseDaemon(file, stateDir, this.place) },
        },
      ],
    })
    if (report.code !== null) process.exitCode = ERROR_CODES[report.code].exit
    else if (flags.strict && report.counts.warning > 0) process.exitCode = EXIT.warnings
    this.log(doctorText(report))
    return report
  }
}
