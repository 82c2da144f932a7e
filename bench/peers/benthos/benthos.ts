/** Benthos 4.27 of the Go module proxy: the last version under its own name, built once with what the comparisons use of it. */
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { cached, politely } from '../../../test/harness/servers/core/cache.ts'
import { programFromDebian } from '../../../test/harness/servers/core/machine.ts'

const VERSION = 'v4.27.0'
const MODULE = `module bench/benthos

go 1.21

require github.com/benthosdev/benthos/v4 ${VERSION}
`

/** The path of the program. */
export async function benthos(): Promise<string> {
  const source = join(dirname(fileURLToPath(import.meta.url)), 'main.go')
  const folder = await cached(`benthos-kafka-sql-${VERSION}`, async (target) => {
    const go = await programFromDebian('go', ['golang-go'])
    await writeFile(join(target, 'go.mod'), MODULE)
    await writeFile(join(target, 'main.go'), readFileSync(source))
    // `go install` of the module itself is refused: its list of versions is not to be had any more.
    await politely(go, ['build', '-trimpath', '-o', 'benthos', '.'], {
      cwd: target,
      env: { CGO_ENABLED: '0', GOFLAGS: '-mod=mod -buildvcs=false' },
    })
  })
  return join(folder, 'benthos')
}
