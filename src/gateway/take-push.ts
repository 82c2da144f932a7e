/** One request: who it is, what it may, what it brings, and what it is told. */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { bearerOf } from '../core/bearer.ts'
import { type Answer, later, Refusal, receiptAnswer } from './answer.ts'
import { bodyForm, withBody } from './body.ts'
import type { LaneIntake } from './lane-intake.ts'
import type { Budget } from './limits.ts'
import { keyOf, type Pusher, type PushSource } from './push-source.ts'
import { BodyError, type BodyKind, type SplitBody, splitBody } from './records.ts'

export interface PushContext {
  /** By `job/source`. */
  readonly sources: ReadonlyMap<string, PushSource>
  readonly memory: Budget
  draining(): boolean
  /** Tells a client that waits for it to send its body. */
  proceed?(): void
}

const PATH = /^\/push\/([a-z][a-z0-9_]{0,62})\/([a-z][a-z0-9_]{0,62})(?:\/([a-z][a-z0-9_]{0,62}))?$/
/** What a header can carry without being changed on its way. */
const KEY = /^[\x21-\x7e]{1,255}$/

/** @throws Refusal */
export async function takePush(request: IncomingMessage, pathname: string, context: PushContext): Promise<Answer> {
  const { source, lane } = placeOf(pathname, context)
  const pusher = pusherOf(request, source, context)
  if (request.method !== 'POST') throw new Refusal(405, 'method', 'only POST is taken here', { allow: 'POST' })
  if (context.draining()) throw later(503, 'draining', 'the gateway is about to end: send this again', 1000)
  const { max_body: maxBytes, max_events: maxEvents, max_event: maxEventBytes } = source.settings.options
  const { kind, encoding } = bodyForm(request, maxBytes)
  const key = idempotencyKey(request, pusher)
  const waitMs = Math.max(pusher.events?.waitMs ?? 0, pusher.bytes?.waitMs ?? 0)
  if (waitMs > 0) throw later(429, 'quota', `${pusher.name} has used up its quota`, waitMs)
  const limits = { maxBytes, memory: context.memory }
  return withBody(request, encoding, limits, context.proceed, async (body, sentBytes) => {
    pusher.bytes?.spend(sentBytes)
    const split = splitOf(kind, body, { maxEvents, maxEventBytes })
    pusher.events?.spend(split.records + split.rejected.length)
    const taken = split.records === 0 ? undefined : await lane.take({ ...split, key, digest: digestOf(kind, body) })
    return receiptAnswer(taken, split.rejected)
  })
}

function placeOf(
  pathname: string,
  { sources }: PushContext,
): { readonly source: PushSource; readonly lane: LaneIntake } {
  const [, job = '', id = '', name] = PATH.exec(pathname) ?? []
  const source = sources.get(`${job}/${id}`)
  const lane = name === undefined ? onlyLane(source) : source?.lanes.get(name)
  if (source === undefined || lane === undefined)
    throw new Refusal(404, 'not_found', 'the path is /push/JOB/SOURCE/LANE, of a source of type push')
  return { source, lane }
}

/** A source with one lane need not be told which. */
function onlyLane(source: PushSource | undefined): LaneIntake | undefined {
  const lanes = [...(source?.lanes.values() ?? [])]
  return lanes.length === 1 ? lanes[0] : undefined
}

function pusherOf(request: IncomingMessage, source: PushSource, { sources }: PushContext): Pusher {
  const token = bearerOf(request.headers.authorization)
  const pusher = source.pusher(token)
  if (pusher !== undefined) return pusher
  const elsewhere = [...sources.values()].some(
    (other) => other.settings.options.tokens.length > 0 && other.pusher(token) !== undefined,
  )
  if (elsewhere) throw new Refusal(403, 'forbidden', 'this token may not push here')
  throw new Refusal(401, 'unauthorized', 'a token of this source is needed', { 'www-authenticate': 'Bearer' })
}

function idempotencyKey(request: IncomingMessage, pusher: Pusher): Buffer | undefined {
  const given = request.headers['idempotency-key']
  if (given === undefined) return undefined
  if (typeof given === 'string' && KEY.test(given)) return keyOf(pusher, given)
  throw new Refusal(400, 'bad_key', 'an Idempotency-Key has 1 to 255 visible ASCII characters')
}

function splitOf(kind: BodyKind, body: Buffer, limits: Parameters<typeof splitBody>[2]): SplitBody {
  try {
    return splitBody(kind, body, limits)
  } catch (error) {
    if (!(error instanceof BodyError)) throw error
    throw new Refusal(error.code === 'too_many_events' ? 413 : 400, error.code, error.message)
  }
}

/** The same bytes read in another way are another body. */
function digestOf(kind: BodyKind, body: Buffer): Buffer {
  return createHash('sha256').update(kind).update(body).digest().subarray(0, 16)
}
