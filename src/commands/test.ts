import { Args, Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { type JobReport, reportText, type TestReport, testText } from '../cli/test-text.ts'
import { AdflowError, ERROR_CODES } from '../core/errors.ts'
import { jobFiles } from '../core/job/find.ts'
import { redact } from '../core/job/secrets.ts'
import { runJobTests, type TestResult } from '../runtime/job-tests.ts'

export default class Test extends BaseCommand {
  static override summary = 'Run the tests inside job files.'
  static override description =
    `Each test gives records to sources and says which rows arrive at loaders and steps, and what is refused. They go
through contract, rules and steps as in a run, at the time that \`clock\` says; nothing is read from sources or written to
stores. Rows are compared whatever their order, each on the columns that it names, in the columns' own types. Refused records are compared on the keys that are given, \`reason\`
by a part of it. Exit 1 when a test fails.`
  static override examples = [
    { description: 'Every job in ./jobs', command: '<%= config.bin %> <%= command.id %>' },
    {
      description: 'Some tests of one job',
      command: '<%= config.bin %> <%= command.id %> jobs/quickstart.yaml --filter "masked"',
    },
  ]
  static override args = {
    jobs: Args.string({
      multiple: true,
      description: 'Job files, or names of jobs in ./jobs. Default: all in ./jobs.',
    }),
  }
  static override flags = {
    filter: Flags.string({ helpValue: 'TEXT', description: 'Only tests with this text in their name.' }),
  }

  async run(): Promise<TestReport> {
    const { args, flags } = await this.parse(Test)
    const named = args.jobs ?? []
    const files = named.length > 0 ? named : (await jobFiles(process.cwd())).filter((file) => file.startsWith('jobs'))
    if (files.length === 0)
      throw new AdflowError('JOB_NOT_FOUND', 'there are no job files in ./jobs', {
        hint: 'name one: `adflow test JOB`',
      })
    const log = this.logger(flags)
    const jobs: JobReport[] = []
    const without: string[] = []
    for (const file of files) {
      const report = await this.#testJob(file, flags.filter, log)
      if (report === undefined) without.push(file)
      else jobs.push(report)
    }
    const results = jobs.flatMap(({ tests }) => tests)
    const broken = jobs.filter(({ error }) => error !== undefined).length
    const passed = results.filter(({ ok }) => ok).length
    const failed = results.length - passed + broken
    if (results.length + broken === 0 && flags.filter !== undefined)
      throw new AdflowError('USAGE', `no test has \`${flags.filter}\` in its name`)
    if (failed > 0) process.exitCode = ERROR_CODES.TEST_FAILED.exit
    const report: TestReport = { schema_version: 1, passed, failed, jobs, without_tests: without }
    this.log(reportText(report))
    return report
  }

  /** undefined: the job has no tests. A job that does not compile fails, and the others are still tested. */
  async #testJob(file: string, filter: string | undefined, log: ReturnType<Test['logger']>) {
    const tests: TestResult[] = []
    let name = file
    try {
      const job = await this.job(file)
      name = job.name
      if (job.tests.length === 0) return undefined
      const registry = await this.registry()
      this.log(`${name} — ${file}`)
      for await (const result of runJobTests({ job, registry, log, ...(filter === undefined ? {} : { filter }) })) {
        tests.push(result)
        this.log(testText(result))
      }
      return { job: name, file, tests }
    } catch (error) {
      if (!(error instanceof AdflowError) || (error.code === 'JOB_NOT_FOUND' && tests.length === 0)) throw error
      const text = redact(error.message)
      this.log(`  ✖ ${file} cannot be tested: ${error.code}: ${text}`)
      return { job: name, file, tests, error: text }
    }
  }
}
