import { spawnSync } from 'node:child_process'
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

describe('the completion script', () => {
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
    const checked = spawnSync(shell, ['-n'], { input: completionScript(shell, config), encoding: 'utf8' })
    // Not every machine has every shell.
    if (checked.error === undefined)
      expect({ status: checked.status, stderr: checked.stderr }).toEqual({ status: 0, stderr: '' })
  })
})
