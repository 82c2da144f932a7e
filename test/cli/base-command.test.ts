import { type Config, Errors } from '@oclif/core'
import { expect, it } from 'vitest'
import { BaseCommand } from '../../src/cli/base-command.ts'
import { AdflowError } from '../../src/core/errors.ts'
import { registerSecret } from '../../src/core/job/secrets.ts'

class Probe extends BaseCommand {
  async run(): Promise<void> {}

  json(error: unknown) {
    return this.toErrorJson(error).error
  }
}

const probe = new Probe([], {} as Config)

it.each([
  ['what the command line has wrong', new Errors.CLIError('Nonexistent flag: --x'), 'USAGE'],
  ['a defect', new TypeError('x is undefined'), 'UNEXPECTED'],
  ['an error of adflow', new AdflowError('LOCAL_IO', 'cannot'), 'LOCAL_IO'],
])('the JSON of %s has its code', (_, error, code) => {
  expect(probe.json(error)).toMatchObject({ code, message: error.message })
})

it('an error shows no secret, in the SQL of its details neither', () => {
  registerSecret('canary-55e1')
  const details = { sql: "SELECT 'canary-55e1'", path: ['transform', 0], lists: [['canary-55e1']] }
  const found = probe.json(new AdflowError('ENGINE_FAILED', 'near canary-55e1', { hint: 'canary-55e1', details }))
  expect(JSON.stringify(found)).not.toContain('canary')
  expect(found.details).toEqual({ sql: "SELECT '***'", path: ['transform', 0], lists: [['***']] })
})
