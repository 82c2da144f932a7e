import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Config } from '@oclif/core'
import { describe, expect, it } from 'vitest'
import { completionScript, SHELLS } from '../../src/cli/completion.ts'

const format = { name: 'format', type: 'option', options: ['table', 'csv'], description: "How it's printed. More." }
const config = {
  bin: 'adflow',
  commands: [
    {
      id: 'run',
      summary: 'Run a job once.',
      args: { job: { name: 'job' } },
      flags: { quiet: { name: 'quiet', char: 'q', type: 'boolean' } },
    },
    { id: 'query', summary: 'SQL.', args: { sql: { name: 'sql' } }, flags: { format } },
    { id: 'state:set', summary: 'Set: positions [here].', args: {}, flags: {} },
    { id: 'state:show', summary: 'Show.', args: {}, flags: {} },
    { id: 'completion', summary: 'This.', args: { shell: { name: 'shell', options: ['bash', 'zsh'] } }, flags: {} },
    { id: 'secret', hidden: true, args: {}, flags: {} },
  ],
} as unknown as Config

/** What bash would offer after these words. */
function offered(...words: string[]): string[] {
  const quoted = words.map((word) => `'${word}'`).join(' ')
  const script = `${completionScript('bash', config)}
COMP_WORDS=(adflow ${quoted}); COMP_CWORD=${words.length}; _adflow_complete; printf '%s\\n' "\${COMPREPLY[@]}"`
  const { stdout, stderr, status } = spawnSync('bash', ['-c', script], { encoding: 'utf8', cwd: import.meta.dirname })
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  return stdout.split('\n').filter((line) => line !== '')
}

/** Types the line into an interactive zsh, asks for the choices, and ends when the shell says that it is done. */
const ZSH = `zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "TERM=dumb; stty columns 300 rows 100; LISTMAX=0; fpath=($2 \\$fpath); autoload -Uz compinit; compinit -u -D
ended() { zle -I; print '<<E''ND>>' }; zle -N ended; bindkey '^T' list-choices; bindkey '^X' ended; print '<<RE''ADY>>'"
zpty -r -m shell out "*<<READY>>*"
zpty -w -n shell "$1"$'\\x14\\x18'
zpty -r -m shell out "*<<END>>*"
print -r -- "$out"
zpty -d shell`

/** What the shell itself offers after the line; undefined where the machine does not have it. */
function typed(shell: 'zsh' | 'fish', line: string): string | undefined {
  const folder = mkdtempSync(join(tmpdir(), 'adflow-completion-'))
  try {
    const script = join(folder, '_adflow')
    writeFileSync(script, completionScript(shell, config))
    const args =
      shell === 'zsh' ? ['-f', '-c', ZSH, 'zsh', line, folder] : ['-c', `source ${script}; complete -C '${line}'`]
    const { stdout, stderr, error } = spawnSync(shell, args, {
      encoding: 'utf8',
      cwd: import.meta.dirname,
      timeout: 30_000,
    })
    if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') return undefined
    expect({ error, stderr }).toEqual({ error: undefined, stderr: '' })
    if (shell === 'fish') return stdout
    // zsh shows the line before its choices, and the prompt with the line after them.
    const [, list = ''] = stdout.slice(stdout.lastIndexOf('[?2004h')).split(line)
    return list
  } finally {
    rmSync(folder, { recursive: true })
  }
}

describe('the completion script', () => {
  describe.each(['zsh', 'fish'] as const)('offers in %s', (shell) => {
    it.each([
      ['adflow s', ['state'], ['query', 'secret']],
      ['adflow state ', ['set', 'positions [here]', 'show'], ['query']],
      ['adflow state s', ['set', 'show'], []],
      ['adflow query --f', ['--format', "How it's printed"], ['--help']],
      ['adflow query --format ', ['table', 'csv'], ['--format', '.ts']],
      ['adflow run --q', ['--quiet'], ['--help']],
      ['adflow run --quiet compl', ['completion.test.ts'], ['state']],
      ['adflow completion ', ['bash', 'zsh'], ['.ts']],
    ])('after `%s`: %j', (line, offeredWords, others) => {
      const found = typed(shell, line)
      if (found === undefined) return // Not every machine has every shell.
      for (const word of offeredWords) expect(found).toContain(word)
      for (const word of others) expect(found).not.toContain(word)
    })
  })

  it.each([
    [[''], ['completion', 'query', 'run', 'state']],
    [['st'], ['state']],
    [
      ['state', ''],
      ['set', 'show'],
    ],
    [
      ['state', 's'],
      ['set', 'show'],
    ],
    [
      ['query', '--'],
      ['--format', '--help'],
    ],
    [
      ['query', '--format', ''],
      ['table', 'csv'],
    ],
    [
      ['run', '-'],
      ['--help', '-h', '--quiet', '-q'],
    ],
    [['run', '--quiet', 'compl'], ['completion.test.ts']],
    [
      ['completion', ''],
      ['bash', 'zsh'],
    ],
    [['query', ''], []],
  ])('offers in bash after %j: %j', (words, expected) => {
    expect(offered(...words)).toEqual(expected)
  })

  it.each(SHELLS)('for %s knows each command, and none that is hidden', (shell) => {
    const script = completionScript(shell, config)
    for (const word of ['query', 'format', 'table', 'show']) expect(script).toContain(word)
    expect(script).not.toContain('secret')
  })

  it.each(SHELLS)('for %s is one that the shell takes', (shell) => {
    const folder = mkdtempSync(join(tmpdir(), 'adflow-completion-'))
    const script = join(folder, 'script')
    writeFileSync(script, completionScript(shell, config))
    const checked = spawnSync(shell, ['-n', script], { encoding: 'utf8' })
    rmSync(folder, { recursive: true })
    // Not every machine has every shell.
    if (checked.error === undefined)
      expect({ status: checked.status, stderr: checked.stderr }).toEqual({ status: 0, stderr: '' })
  })
})
