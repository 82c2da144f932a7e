import { Args } from '@oclif/core'
import { BaseCommand } from '../cli/base-command.ts'
import { completionScript, SHELLS, type Shell } from '../cli/completion.ts'

interface CompletionScript {
  readonly schema_version: 1
  readonly shell: Shell
  readonly script: string
}

export default class Completion extends BaseCommand {
  static override summary = 'Print the completion script for bash, zsh or fish.'
  static override description =
    `The script knows every command, flag and fixed value; it works offline and starts no process while you type.
Print it again after an upgrade.

bash: adflow completion bash > ~/.local/share/bash-completion/completions/adflow
zsh:  adflow completion zsh > "\${fpath[1]}/_adflow"
fish: adflow completion fish > ~/.config/fish/completions/adflow.fish`
  static override examples = [
    { description: 'For this bash only', command: 'source <(<%= config.bin %> <%= command.id %> bash)' },
    { description: 'For every zsh', command: '<%= config.bin %> <%= command.id %> zsh > "${fpath[1]}/_adflow"' },
  ]
  static override args = {
    shell: Args.custom<Shell>({ options: [...SHELLS] })({ required: true, description: 'The shell.' }),
  }

  async run(): Promise<CompletionScript> {
    const { args } = await this.parse(Completion)
    const script = completionScript(args.shell, this.config)
    this.log(script.trimEnd())
    return { schema_version: 1, shell: args.shell, script }
  }
}
