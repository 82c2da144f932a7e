/** Completion scripts for shells, written out from the commands themselves: they work offline and start no process. */
import type { Command, Config } from '@oclif/core'

export const SHELLS = ['bash', 'zsh', 'fish'] as const
export type Shell = (typeof SHELLS)[number]

interface Flag {
  readonly name: string
  readonly char: string | undefined
  readonly about: string
  readonly takesValue: boolean
  readonly options: readonly string[]
}

interface CompletedCommand {
  /** Words after the program's name: `state set`. */
  readonly words: string
  readonly about: string
  readonly flags: readonly Flag[]
  /** Values of the arguments, where they are known. */
  readonly values: readonly string[]
  readonly takesFiles: boolean
}

/** Names of arguments that are paths. */
const FILE_ARGUMENTS = new Set(['job', 'jobs', 'file', 'dir'])

export function completionScript(shell: Shell, config: Config): string {
  const commands = config.commands
    .filter((command) => !command.hidden)
    .map(describe)
    .sort((a, b) => (a.words < b.words ? -1 : 1))
  const script = { bash, zsh, fish }[shell]
  return script(config.bin, commands)
}

function describe(command: Command.Loadable): CompletedCommand {
  const flags = Object.values(command.flags)
    .filter((flag) => flag.hidden !== true)
    .map((flag) => ({
      name: flag.name,
      char: flag.char,
      about: sentence(flag.summary ?? flag.description ?? ''),
      takesValue: flag.type === 'option',
      options: flag.type === 'option' ? (flag.options ?? []) : [],
    }))
  const help = { name: 'help', char: 'h', about: 'Show help.', takesValue: false, options: [] }
  const args = Object.values(command.args)
  return {
    words: command.id.replaceAll(':', ' '),
    about: sentence(command.summary ?? ''),
    flags: [...flags, help].sort((a, b) => (a.name < b.name ? -1 : 1)),
    values: args.flatMap((arg) => arg.options ?? []),
    takesFiles: args.some(({ name }) => FILE_ARGUMENTS.has(name)),
  }
}

function sentence(text: string): string {
  return (text.split(/(?<=\.)\s|\n/, 1)[0] ?? '').replaceAll('`', '')
}

/** Words that may follow each sequence of words: '' → all first words, 'state' → show, set … */
function following(commands: readonly CompletedCommand[]): Map<string, Map<string, string>> {
  const next = new Map<string, Map<string, string>>()
  for (const { words, about } of commands) {
    const parts = words.split(' ')
    for (const [index, word] of parts.entries()) {
      const before = parts.slice(0, index).join(' ')
      const level = next.get(before) ?? new Map<string, string>()
      next.set(before, level)
      if (index === parts.length - 1) level.set(word, about)
      else if (!level.has(word)) level.set(word, '')
    }
  }
  return next
}

function flagWords(flags: readonly Flag[]): string[] {
  return flags.flatMap(({ name, char }) => [`--${name}`, ...(char === undefined ? [] : [`-${char}`])])
}

function single(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

function bash(bin: string, commands: readonly CompletedCommand[]): string {
  const name = `_${bin}_complete`
  const next = following(commands)
  const words = [...next].map(
    ([before, level]) => `    ${single(before)}) next=${single([...level.keys()].join(' '))} ;;`,
  )
  const flags = commands.map(({ words: path, flags: all, values, takesFiles }) => {
    const known = values.length === 0 ? '' : `; values=${single(values.join(' '))}`
    const rest = `${known}${takesFiles ? '; files=1' : ''}`
    return `    ${single(path)}) flags=${single(flagWords(all).join(' '))}${rest} ;;`
  })
  const options = commands.flatMap(({ words: path, flags: all }) =>
    all
      .filter((flag) => flag.options.length > 0)
      .map(
        (flag) =>
          `    ${single(`${path} --${flag.name}`)}) COMPREPLY=($(compgen -W ${single(flag.options.join(' '))} -- "$current")); return ;;`,
      ),
  )
  const valued = commands.flatMap(({ words: path, flags: all }) => {
    const takers = all.filter((flag) => flag.takesValue && flag.options.length === 0)
    return takers.length === 0
      ? []
      : [
          `    ${flagWords(takers)
            .map((flag) => single(`${path} ${flag}`))
            .join('|')}) COMPREPLY=($(compgen -f -- "$current")); return ;;`,
        ]
  })
  return `# bash completion of ${bin}. Put it where bash finds it:
#   ${bin} completion bash > ~/.local/share/bash-completion/completions/${bin}
# or for this shell only:
#   source <(${bin} completion bash)
${name}() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  local path='' next='' flags='' values='' files='' word index
  for ((index = 1; index < COMP_CWORD; index++)); do
    word="\${COMP_WORDS[index]}"
    case "$word" in -*) continue ;; esac
    case "\${path:+$path }$word" in
      ${commandPrefixes(commands).map(single).join('|')}) path="\${path:+$path }$word" ;;
      *) break ;;
    esac
  done
  case "$path $previous" in
${[...options, ...valued].join('\n')}
  esac
  case "$path" in
${words.join('\n')}
  esac
  case "$path" in
${flags.join('\n')}
  esac
  if [[ "$current" == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$current"))
  else
    [[ "$path" != "\${COMP_WORDS[*]:1:COMP_CWORD-1}" ]] || COMPREPLY=($(compgen -W "$next $values" -- "$current"))
    [[ -z "$files" ]] || COMPREPLY+=($(compgen -f -- "$current"))
  fi
}
complete -o filenames -F ${name} ${bin}
`
}

/** Every sequence of words that is a command or leads to one. */
function commandPrefixes(commands: readonly CompletedCommand[]): string[] {
  const all = commands.flatMap(({ words }) => {
    const parts = words.split(' ')
    return parts.map((_, index) => parts.slice(0, index + 1).join(' '))
  })
  return [...new Set(all)]
}

function zsh(bin: string, commands: readonly CompletedCommand[]): string {
  const inBrackets = (text: string) => text.replaceAll(/([[\]:])/g, '\\$1')
  const levels = [...following(commands)].map(([before, level]) => {
    const words = [...level].map(([word, about]) => single(`${word}:${about.replaceAll(':', '\\:')}`))
    return `    ${single(before)}) next=(${words.join(' ')}) ;;`
  })
  const specs = commands.map(({ words, flags, values, takesFiles }) => {
    const lines = flags.map(({ name, char, about, takesValue, options }) => {
      const value = takesValue ? `:${name}:${options.length > 0 ? `(${options.join(' ')})` : '_files'}` : ''
      const names = char === undefined ? `--${name}` : `{-${char},--${name}}`
      const rest = single(`[${inBrackets(about)}]${value}`)
      return `        ${names}${rest}`
    })
    const rest =
      values.length > 0 ? [`        '*:value:(${values.join(' ')})'`] : takesFiles ? ["        '*:file:_files'"] : []
    return `    ${single(words)}) _arguments \\\n${[...lines, ...rest].join(' \\\n')} ;;`
  })
  return `#compdef ${bin}
# zsh completion of ${bin}. Put it into a folder of $fpath and start a new shell:
#   ${bin} completion zsh > "\${fpath[1]}/_${bin}"
_${bin}() {
  local at='' word
  local -i index depth=1
  local -a next
  for ((index = 2; index < CURRENT; index++)); do
    word="\${words[index]}"
    [[ "$word" == -* ]] && continue
    case "\${at:+$at }$word" in
      (${commandPrefixes(commands)
        .map((text) => text.replaceAll(' ', '\\ '))
        .join('|')}) at="\${at:+$at }$word"; depth=index ;;
      (*) break ;;
    esac
  done
  case "$at" in
${levels.join('\n')}
  esac
  if (( \${#next} > 0 )) && [[ "\${words[CURRENT]}" != -* ]]; then
    _describe 'command' next
  fi
  # To _arguments the words of the command would be arguments.
  words=("\${words[1]}" "\${(@)words[depth+1,-1]}")
  (( CURRENT -= depth - 1 ))
  case "$at" in
${specs.join('\n')}
  esac
}
if [[ "\${funcstack[1]}" == _${bin} ]]; then _${bin} "$@"; else compdef _${bin} ${bin}; fi
`
}

function fish(bin: string, commands: readonly CompletedCommand[]): string {
  const lines: string[] = []
  const at = (path: string) => single(`__${bin}_at ${path}`.trimEnd())
  for (const [before, level] of following(commands))
    for (const [word, about] of level)
      lines.push(`complete -c ${bin} -n ${at(before)} -a ${single(word)} -d ${single(about)}`)
  for (const { words, flags, values, takesFiles } of commands) {
    const inside = single(`__${bin}_in ${words}`)
    if (takesFiles && values.length === 0) lines.push(`complete -c ${bin} -n ${inside} -F`)
    if (values.length > 0) lines.push(`complete -c ${bin} -n ${inside} -a ${single(values.join(' '))}`)
    for (const { name, char, about, takesValue, options } of flags) {
      const short = char === undefined ? '' : ` -s ${char}`
      const value = !takesValue ? '' : options.length > 0 ? ` -x -a ${single(options.join(' '))}` : ' -r'
      lines.push(`complete -c ${bin} -n ${inside} -l ${name}${short}${value} -d ${single(about)}`)
    }
  }
  return `# fish completion of ${bin}:
#   ${bin} completion fish > ~/.config/fish/completions/${bin}.fish
function __${bin}_words
  set -l words (commandline -opc)
  set -e words[1]
  string match -v -- '-*' $words
end
# The words so far are exactly these.
function __${bin}_at
  set -l words (__${bin}_words)
  test "$words" = "$argv"
end
# The words so far begin with these.
function __${bin}_in
  set -l words (__${bin}_words)
  test (count $words) -ge (count $argv); or return
  set -l first $words[1..(count $argv)]
  test "$first" = "$argv"
end
complete -c ${bin} -f
${lines.join('\n')}
`
}
