/** Where bin/run.js goes on. Bundled with the commands, so that oclif is one file for all of them, and no hundred modules to be found. */
import { execute } from '@oclif/core'

/** Runs the command of `process.argv`. `bin`: URL of the program, by which oclif finds package and manifest. */
export async function start(bin: string): Promise<void> {
  await execute({ dir: bin })
}
