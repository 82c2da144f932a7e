/** A Java that is new enough: machines have several, and the one on PATH may be the oldest. */
import { readdir, readFile, realpath } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { findProgram, programFromDebian } from './machine.ts'

/** Where Debian, and most packages for it, put Java. */
const FOLDER = '/usr/lib/jvm'

/** Path of `java` of at least this major version. @throws Error saying what was found. */
export async function javaOf(major: number): Promise<string> {
  return (
    (await find(major)) ?? programFromDebian('java', ['default-jdk-headless'], () => find(major)).catch(refuse(major))
  )
}

async function find(major: number): Promise<string | undefined> {
  const home = process.env['JAVA_HOME']
  const onPath = await findProgram('java', home === undefined ? [] : [join(home, 'bin')])
  const installed = (await readdir(FOLDER).catch(() => [])).map((name) => join(FOLDER, name, 'bin', 'java'))
  for (const java of [...(onPath === undefined ? [] : [onPath]), ...installed])
    if ((await majorOf(java)) >= major) return java
  return undefined
}

/** From the file that a JDK carries: starting each one takes a while. 0: no JDK. */
async function majorOf(java: string): Promise<number> {
  try {
    const release = await readFile(join(dirname(await realpath(java)), '..', 'release'), 'utf8')
    return Number(/^JAVA_VERSION="(\d+)/m.exec(release)?.[1] ?? 0)
  } catch {
    return 0 // a broken link, or something else of that name
  }
}

function refuse(major: number): (error: unknown) => never {
  return (cause) => {
    throw new Error(`Java ${major} or newer is needed, on PATH, in JAVA_HOME or under ${FOLDER}`, { cause })
  }
}
