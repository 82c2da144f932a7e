import { Args, loadHelpClass } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { table } from '../cli/table.ts'
import { ERROR_CODES, EXIT, EXIT_ABOUT } from '../core/errors.ts'

interface HelpTopic {
  readonly schema_version: 1
  readonly exit_codes: readonly {
    readonly exit: number
    readonly meaning: string
    readonly errors: readonly string[]
  }[]
}

export default class Help extends BaseCommand {
  static override summary = 'Help on adflow, on a command, or on a topic: exit-codes.'
  static override description =
    'The same as `--help` behind a command. The topic exit-codes lists what each exit code means.'
  static override examples = [
    { description: 'What the exit codes mean', command: '<%= config.bin %> <%= command.id %> exit-codes' },
    { description: 'The same as `run --help`', command: '<%= config.bin %> <%= command.id %> run' },
  ]
  static override strict = false
  static override args = { topic: Args.string({ description: 'A command, or exit-codes. Default: everything.' }) }

  async run(): Promise<HelpTopic | undefined> {
    const { argv } = await this.parse(Help)
    if (argv.length === 1 && argv[0] === 'exit-codes') return this.#exitCodes()
    const HelpClass = await loadHelpClass(this.config)
    await new HelpClass(this.config, this.config.pjson.oclif.helpOptions).showHelp(argv.map(String))
    return undefined
  }

  #exitCodes(): HelpTopic {
    const exitCodes = Object.entries(EXIT).map(([name, exit]) => ({
      exit,
      meaning: EXIT_ABOUT[name as keyof typeof EXIT],
      errors: Object.entries(ERROR_CODES).flatMap(([code, spec]) => (spec.exit === exit ? [code] : [])),
    }))
    this.log(
      table(
        [{ name: 'exit', align: 'right' }, { name: 'meaning' }, { name: 'error codes' }],
        exitCodes.map(({ exit, meaning, errors }) => [String(exit), meaning, inLines(errors)]),
      ),
    )
    this.log('\nWhat each error code means and what to do: docs/errors.md')
    return { schema_version: 1, exit_codes: exitCodes }
  }
}

/** Three in a line. */
function inLines(words: readonly string[]): string {
  const lines = Array.from({ length: Math.ceil(words.length / 3) }, (_, line) => words.slice(3 * line, 3 * line + 3))
  return lines.map((line) => line.join(', ')).join('\n')
}
