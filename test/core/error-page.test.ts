import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { errorPage } from '../../src/core/error-page.ts'
import { ERROR_CODES, EXIT, EXIT_ABOUT } from '../../src/core/errors.ts'

const page = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')

it('docs/errors.md has a section for each code, and no other', () => {
  expect([...page.matchAll(/^### (\w+)$/gm)].map((match) => match[1])).toEqual(Object.keys(ERROR_CODES))
})

it('docs/errors.md has a row for each exit code, and every exit code of an error is one of them', () => {
  expect([...page.matchAll(/^\| (\d+) \|/gm)].map((match) => Number(match[1]))).toEqual(Object.values(EXIT))
  expect(Object.keys(EXIT_ABOUT)).toEqual(Object.keys(EXIT))
  for (const { exit } of Object.values(ERROR_CODES)) expect(Object.values(EXIT)).toContain(exit)
})

it('the page says what a code means, its exit code, and whether trying again helps', () => {
  expect(errorPage()).toContain(
    `### SPOOL_FULL\n\n${ERROR_CODES.SPOOL_FULL.about}\n\nExit code 69; the same command may succeed later.\n`,
  )
})
