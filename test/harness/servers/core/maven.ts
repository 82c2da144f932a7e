/** Java servers out of Maven Central. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { cached, politely } from './cache.ts'
import { programFromDebian } from './machine.ts'

/** The folder of the jars of Maven artifacts (`group:artifact:version`) and all that they need at run time. */
export async function mavenJars(name: string, artifacts: readonly string[]): Promise<string> {
  const version = artifacts[0]?.split(':')[2] ?? ''
  const folder = await cached(`${name}-${version}`, async (target) => {
    const maven = await programFromDebian('mvn', ['maven'])
    await writeFile(join(target, 'pom.xml'), pom(name, artifacts))
    const goal = ['dependency:copy-dependencies', '-DincludeScope=runtime', '-DoutputDirectory=lib']
    await politely(maven, ['--quiet', '--batch-mode', ...goal], { cwd: target })
  })
  return join(folder, 'lib')
}

function pom(name: string, artifacts: readonly string[]): string {
  const dependencies = artifacts.map((artifact) => {
    const [group, id, version] = artifact.split(':')
    return `<dependency><groupId>${group}</groupId><artifactId>${id}</artifactId><version>${version}</version></dependency>`
  })
  return `<project>
<modelVersion>4.0.0</modelVersion>
<groupId>adflow.test</groupId><artifactId>${name}</artifactId><version>1</version><packaging>pom</packaging>
<dependencies>
${dependencies.join('\n')}
</dependencies>
</project>
`
}
