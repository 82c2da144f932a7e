/** What a server says of itself by server reflection, `grpc.reflection.v1`, or its predecessor where only that is there. */
import type * as Protobuf from 'protobufjs'
import type { IFileDescriptorProto } from 'protobufjs/ext/descriptor.js'
import { AdflowError } from '../../core/errors.ts'
import type { GrpcChannel } from './channel.ts'
import { isGrpcStatus } from './errors.ts'

/** The part of the protocol that is spoken; its numbers are the same in both versions. */
const PROTOCOL = `syntax = "proto3";
message Request { oneof ask { string file_by_filename = 3; string file_containing_symbol = 4; string list_services = 7; } }
message Response { Files files = 4; Services services = 6; Failure failure = 7; }
message Files { repeated bytes file = 1; }
message Services { repeated Service service = 1; }
message Service { string name = 1; }
message Failure { int32 code = 1; string message = 2; }`

const VERSIONS = ['v1', 'v1alpha']
const UNIMPLEMENTED = 12
/** Of a server that names files without end. */
const MOST_FILES = 10_000

interface Answer {
  readonly files?: { readonly file?: readonly Uint8Array[] }
  readonly services?: { readonly service?: readonly { readonly name: string }[] }
  readonly failure?: { readonly message: string }
}

/** Names of the services, reflection itself left out. @throws AdflowError SOURCE_…, GrpcStatus */
export async function reflectedServices(channel: GrpcChannel, signal: AbortSignal): Promise<readonly string[]> {
  return talking(channel, signal, async (ask) => {
    const { services } = await ask({ list_services: '*' })
    const names = (services?.service ?? []).map(({ name }) => name)
    return names.filter((name) => !name.startsWith('grpc.reflection.')).sort()
  })
}

/** Everything that is needed to read what has the name. @throws AdflowError SOURCE_MISSING where the server does not know it, SOURCE_…; GrpcStatus */
export async function reflectedRoot(channel: GrpcChannel, symbol: string, signal: AbortSignal): Promise<Protobuf.Root> {
  const { default: protobuf } = await import('protobufjs')
  const { default: descriptor } = await import('protobufjs/ext/descriptor.js')
  return talking(channel, signal, async (ask) => {
    const files = new Map<string, IFileDescriptorProto>()
    const wanted: string[] = []
    const take = ({ files: found, failure }: Answer, what: string): void => {
      if (failure !== undefined || found === undefined)
        throw new AdflowError(
          'SOURCE_MISSING',
          `${channel.address} knows no ${what}: ${failure?.message ?? 'it says nothing'}`,
          {
            hint: '`adflow discover` lists what it has; or name the files of its services in `proto`',
          },
        )
      for (const bytes of found.file ?? []) {
        const file: IFileDescriptorProto = descriptor.FileDescriptorProto.decode(bytes) as object
        const { name = '', dependency = [] } = file
        files.set(name, file)
        wanted.push(...dependency)
      }
    }
    take(await ask({ file_containing_symbol: symbol }), symbol)
    for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
      if (files.has(name)) continue
      if (files.size > MOST_FILES)
        throw new AdflowError('SOURCE_DAMAGED', `${channel.address} names more than ${MOST_FILES} files for ${symbol}`)
      take(await ask({ file_by_filename: name }), name)
    }
    return protobuf.Root.fromDescriptor({ file: [...files.values()] }, { keepCase: true })
  })
}

type Ask = (request: Readonly<Record<string, string>>) => Promise<Answer>

async function talking<T>(channel: GrpcChannel, signal: AbortSignal, talk: (ask: Ask) => Promise<T>): Promise<T> {
  const { default: protobuf } = await import('protobufjs')
  const { root } = protobuf.parse(PROTOCOL, { keepCase: true })
  const [request, response] = [root.lookupType('Request'), root.lookupType('Response')]
  for (const version of VERSIONS) {
    const call = await channel.talk(`/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`)
    const cancel = () => call.cancel()
    signal.addEventListener('abort', cancel, { once: true })
    const answers = call[Symbol.asyncIterator]() as AsyncIterator<Buffer>
    try {
      return await talk(async (asked) => {
        call.write(request.encode(request.fromObject(asked)).finish())
        const { value, done } = await answers.next()
        if (done === true)
          throw new AdflowError('SOURCE_DAMAGED', `${channel.address} ends the reflection without an answer`)
        return response.toObject(response.decode(value)) as Answer
      })
    } catch (error) {
      signal.throwIfAborted()
      if (!isGrpcStatus(error)) throw error
      if (error.code === UNIMPLEMENTED && version !== VERSIONS.at(-1)) continue
      if (error.code === UNIMPLEMENTED)
        throw new AdflowError('SOURCE_MISSING', `${channel.address} has no server reflection`, {
          cause: error,
          hint: 'name the files of its services in `proto`',
        })
      throw error
    } finally {
      signal.removeEventListener('abort', cancel)
      call.on('error', () => undefined).cancel()
    }
  }
  throw new AdflowError('UNEXPECTED', 'no version of the reflection was tried')
}
