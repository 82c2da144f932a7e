/** docs/errors.md, from the code table. */
import { ERROR_CODES, EXIT, EXIT_ABOUT } from './errors.ts'

export function errorPage(): string {
  const exits = Object.entries(EXIT).map(([name, code]) => `| ${code} | ${EXIT_ABOUT[name as keyof typeof EXIT]} |`)
  const codes = Object.entries(ERROR_CODES).map(([code, { exit, retryable, about }]) => {
    return `### ${code}\n\n${about}\n\nExit code ${exit}${retryable ? '; the same command may succeed later' : ''}.\n`
  })
  return `<!-- Generated from src/core/errors.ts by \`npm run generate\`. Do not edit. -->
# Errors

An error says what was being done, to what, what was found and what to do next. Its code is stable; with \`--json\` it
is \`error.code\`.

## Exit codes

| exit | meaning |
|---|---|
${exits.join('\n')}

## Codes

${codes.join('\n')}`
}
