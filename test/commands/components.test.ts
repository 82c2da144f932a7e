import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import ComponentsDescribe from '../../src/commands/components/describe.ts'
import ComponentsExample from '../../src/commands/components/example.ts'
import Components from '../../src/commands/components/index.ts'
import Help from '../../src/commands/help.ts'
import { ERROR_CODES, EXIT } from '../../src/core/errors.ts'
import { runCommand } from './run-command.ts'

const json = ({ stdout }: { stdout: string }) => JSON.parse(stdout)

describe('adflow components', () => {
  it('lists every component with its kind and what it does', async () => {
    const { components } = json(await runCommand('components', Components, ['--json']))
    const found = components.map(({ kind, type }: Record<string, string>) => `${kind} ${type}`)
    expect(found).toEqual(expect.arrayContaining(['extractor files', 'step dedupe', 'loader duckdb', 'loader files']))
    const loaders = await runCommand('components', Components, ['--kind', 'loader'])
    expect(loaders.stdout).toContain('embedded warehouse')
    expect(loaders.stdout).not.toContain('dedupe')
  })

  it('describes the options of one, as a table and as JSON Schema', async () => {
    const text = await runCommand('components:describe', ComponentsDescribe, ['dedupe'])
    expect(text.stdout).toMatch(/ key +list of text +required/)
    const described = json(
      await runCommand('components:describe', ComponentsDescribe, ['files', '--kind', 'loader', '--json']),
    )
    expect(described).toMatchObject({ kind: 'loader', type: 'files', json_schema: { type: 'object' } })
    expect(described.options.map(({ name }: { name: string }) => name)).toContain('partition')
  })

  it('gives an example that can be pasted', async () => {
    const { stdout } = await runCommand('components:example', ComponentsExample, ['duckdb'])
    expect(parse(stdout)).toMatchObject({ load: { my_duckdb: { type: 'duckdb', table: 'events' } } })
  })

  it('says what was probably meant, and asks which of two', async () => {
    const typo = await runCommand('components:describe', ComponentsDescribe, ['dedup'])
    expect(typo).toMatchObject({ exit: EXIT.usage, stdout: '' })
    expect(typo.stderr).toContain('did you mean `dedupe`?')
    const two = await runCommand('components:describe', ComponentsDescribe, ['files'])
    expect(two.stderr).toContain('extractor, loader')
  })
})

describe('adflow help exit-codes', () => {
  it('names every exit code and every error', async () => {
    const { exit_codes } = json(await runCommand('help', Help, ['exit-codes', '--json']))
    expect(exit_codes.map(({ exit }: { exit: number }) => exit)).toEqual(Object.values(EXIT))
    expect(exit_codes.flatMap(({ errors }: { errors: string[] }) => errors).sort()).toEqual(
      Object.keys(ERROR_CODES).sort(),
    )
  })
})
