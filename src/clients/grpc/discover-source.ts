/** Methods that can be read: of .proto files, or as the server itself tells. */
import type { DiscoverEnv, Offer } from '../../core/discovery.ts'
import type { GrpcChannel } from './channel.ts'
import { reflectedServices } from './reflection.ts'
import { retrying } from './retrying.ts'
import { rootOf, type SchemaOptions, servicesOf } from './schema.ts'

const ONCE = { attempts: 1, initialMs: 0, maxMs: 0, patienceMs: 0 }

/** Closes `channel`. */
export async function* discoverMethods(
  channel: GrpcChannel,
  schema: SchemaOptions,
  { signal }: DiscoverEnv,
): AsyncGenerator<Offer> {
  const once = <T>(ask: () => Promise<T>) => retrying(ONCE, signal, channel.address, ask)
  try {
    const named = schema.files.length > 0 ? [''] : await once(() => reflectedServices(channel, signal))
    for (const name of named) {
      const root = await once(() => rootOf(schema, name, channel, signal))
      const services = servicesOf(root).filter(({ fullName }) => name === '' || fullName === `.${name}`)
      for (const service of services)
        for (const { name: method, requestStream, requestType, responseStream, responseType } of service.methodsArray) {
          if (requestStream === true) continue // such a method is written to
          const path = `${service.fullName.slice(1)}/${method}`
          const about = `${bare(requestType)} → ${responseStream === true ? 'stream of ' : ''}${bare(responseType)}`
          yield { kind: 'method', name: path, about, options: { method: path, again: 'all' } }
        }
    }
  } finally {
    await channel.close()
  }
}

function bare(type: string): string {
  return type.slice(type.lastIndexOf('.') + 1)
}
