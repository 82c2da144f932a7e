import { Flags } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { clientFlags, clientOf } from '../cli/daemon-flags.ts'
import { type DaemonReport, daemonText } from '../cli/daemon-text.ts'
import { AdflowError } from '../core/errors.ts'
import { daemonReport } from '../daemon/client.ts'

const CLEAR = '\u001b[H\u001b[J'
const OTHER_SCREEN = '\u001b[?1049h\u001b[?25l'
const OWN_SCREEN = '\u001b[?25h\u001b[?1049l'

export default class Top extends BaseCommand {
  static override summary = 'Watch the daemon in the terminal: jobs, their state, next times, rates, and the last runs.'
  static override description =
    'Ends with q or Ctrl-C. Where the output is no terminal, and with --once or --json, it is shown once.'
  static override examples = [
    { description: 'Of the jobs in ./jobs', command: '<%= config.bin %> <%= command.id %>' },
    { description: 'Once', command: '<%= config.bin %> <%= command.id %> --once' },
  ]
  static override flags = {
    ...clientFlags,
    once: Flags.boolean({ description: 'Show it once.' }),
    interval: Flags.integer({ default: 1, min: 1, helpValue: 'SECONDS', description: 'How often it is looked at.' }),
  }

  async run(): Promise<DaemonReport> {
    const { flags } = await this.parse(Top)
    const ask = async () => daemonReport(await clientOf(flags))
    const first = await ask()
    if (flags.once || this.jsonEnabled() || !process.stdout.isTTY || !process.stdin.isTTY) {
      this.log(daemonText(first, Date.now()))
      return first
    }
    return this.#watch(first, ask, flags.interval * 1000)
  }

  /** Another daemon may come to lead meanwhile: each look finds it anew, and says so where there is none. */
  async #watch(first: DaemonReport, ask: () => Promise<DaemonReport>, intervalMs: number): Promise<DaemonReport> {
    const { stdin, stdout } = process
    let ended = false
    let wake = () => {}
    const end = () => {
      ended = true
      wake()
    }
    const key = (data: Buffer) => {
      // In raw mode Ctrl-C is a key.
      if ([...data.toString('latin1')].some((each) => ['q', 'Q', '\u0003'].includes(each))) end()
    }
    stdin.setRawMode(true).on('data', key).resume()
    process.on('SIGTERM', end).on('SIGINT', end)
    stdout.write(OTHER_SCREEN)
    let report = first
    let trouble = ''
    try {
      while (!ended) {
        const lines = `${trouble}${daemonText(report, Date.now())}`.split('\n')
        const { rows = 24, columns = 80 } = stdout
        stdout.write(
          `${CLEAR}${lines
            .slice(0, rows - 1)
            .map((line) => line.slice(0, columns))
            .join('\n')}`,
        )
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, intervalMs)
          wake = () => {
            clearTimeout(timer)
            resolve()
          }
        })
        if (ended) break
        try {
          report = await ask()
          trouble = ''
        } catch (error) {
          if (!(error instanceof AdflowError)) throw error
          trouble = `${error.message}; what follows is old\n\n`
        }
      }
      return report
    } finally {
      stdout.write(OWN_SCREEN)
      stdin.setRawMode(false).off('data', key).pause()
      process.off('SIGTERM', end).off('SIGINT', end)
    }
  }
}
