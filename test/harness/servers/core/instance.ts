/** One running server of any kind, with everything that belongs to it. */
import { type Folder, makeFolder, mount, unmountBeneath } from './folder.ts'
import type { Endpoint, PrivateOptions, ServerKind, StartContext } from './kind.ts'
import { freePort } from './ports.ts'
import { ServerProcess } from './process.ts'

const START_ATTEMPTS = 3
/** Somebody took a port between our look and the server's. */
const PORT_TAKEN = /address already in use|EADDRINUSE|could not bind|BindException|Address in use/i

interface Parts {
  readonly folder: Folder
  readonly processes: readonly ServerProcess[]
  readonly restarted: readonly (() => Promise<void>)[]
  readonly undo: readonly (() => void | Promise<void>)[]
}

export class ServerInstance<E extends Endpoint> {
  readonly endpoint: E
  readonly folder: Folder
  readonly #parts: Parts

  constructor(endpoint: E, parts: Parts) {
    this.endpoint = endpoint
    this.folder = parts.folder
    this.#parts = parts
  }

  /** Its processes, for a test that means only one of them. */
  get processes(): readonly ServerProcess[] {
    return this.#parts.processes
  }

  /** All its processes die at once; the data stays. `restart` brings it back. */
  async kill9(): Promise<void> {
    await Promise.all(this.#parts.processes.map((process) => process.kill9()))
  }

  /** Holds it still (SIGSTOP): it takes connections and says nothing. */
  stop(): void {
    for (const process of this.#parts.processes) process.stop()
  }

  cont(): void {
    for (const process of this.#parts.processes) process.cont()
  }

  /** Same address, same data. In order when it runs; after `kill9` it recovers. */
  async restart(): Promise<void> {
    await Promise.all(this.#parts.processes.map((process) => process.restart()))
    for (const wait of this.#parts.restarted) await wait()
  }

  /** Ends it and removes its data. */
  async end(): Promise<void> {
    await Promise.all(this.#parts.processes.map((process) => process.end()))
    for (const undo of [...this.#parts.undo].reverse()) await undo()
    this.folder.remove()
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end()
  }
}

/** Installs and starts. @throws Error with the end of the server's log. */
export async function startInstance<E extends Endpoint, O>(
  kind: ServerKind<E, O>,
  options: O & PrivateOptions,
): Promise<ServerInstance<E>> {
  await kind.install()
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start(kind, options)
    } catch (error) {
      if (attempt === START_ATTEMPTS || !PORT_TAKEN.test(String(error))) throw error
    }
  }
}

async function start<E extends Endpoint, O>(
  kind: ServerKind<E, O>,
  options: O & PrivateOptions,
): Promise<ServerInstance<E>> {
  const folder = makeFolder(kind.name)
  const processes: ServerProcess[] = []
  const restarted: (() => Promise<void>)[] = []
  const undo: (() => void | Promise<void>)[] = []
  const context: StartContext = {
    folder,
    port: freePort,
    disk: () => {
      const path = folder.make('disk')
      if (options.diskSize !== undefined) {
        mount(path, options.diskSize)
        undo.push(() => unmountBeneath(path))
      }
      return path
    },
    onRestart: (wait) => void restarted.push(wait),
    onEnd: (step) => void undo.push(step),
    run: async (spec) => {
      const process = new ServerProcess(spec)
      processes.push(process)
      await process.start()
      return process
    },
  }
  try {
    return new ServerInstance(await kind.start(context, options), { folder, processes, restarted, undo })
  } catch (error) {
    await Promise.all(processes.map((process) => process.end()))
    for (const step of undo.reverse()) await step()
    folder.remove()
    throw error
  }
}

/** The endpoint that the environment names instead of a server of the harness. */
export function fromEnvironment<E extends Endpoint, O>(
  { variables, defaults = {} }: ServerKind<E, O>,
  environment: NodeJS.ProcessEnv = process.env,
): E | undefined {
  const fields = Object.entries<string>(variables)
  const address = fields[0]?.[1] ?? ''
  if (!environment[address]) return undefined
  const known = fields.map(([field, variable]) => [
    field,
    environment[variable] ?? (defaults as Readonly<Record<string, string>>)[field] ?? '',
  ])
  return Object.fromEntries(known) as E
}
