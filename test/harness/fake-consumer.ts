/** A consumer in memory that answers as it is told to. */
import { z } from 'zod'
import type { Answer, ConsumerDefinition, Message, MessageConsumer } from '../../src/core/consumer.ts'
import { defineConsumer } from '../../src/core/define.ts'

export interface Sent {
  readonly id: string
  readonly ids: readonly number[]
  readonly body: string
  readonly endpoint: string
  readonly at: number
  readonly answer: Answer['outcome']
}

export class FakeConsumer {
  readonly sent: Sent[] = []
  /** Most that were under way at a time. */
  most = 0
  answer: (
    message: Message & { readonly ids: readonly number[]; readonly endpoint: string },
  ) => Answer | Promise<Answer> = () => ({ outcome: 'delivered' })
  #underWay = 0

  get delivered(): number[] {
    return this.sent.filter(({ answer }) => answer === 'delivered').flatMap(({ ids }) => ids)
  }

  /** For `extra` of the registry, as `fake`. */
  get definition(): ConsumerDefinition {
    const send: MessageConsumer['send'] = async (message, { endpoint }) => {
      this.#underWay += 1
      this.most = Math.max(this.most, this.#underWay)
      const ids = ([JSON.parse(message.body)].flat() as { id: number }[]).map(({ id }) => id)
      try {
        const answer = await this.answer({ ...message, ids, endpoint })
        this.sent.push({ id: message.id, ids, body: message.body, endpoint, at: Date.now(), answer: answer.outcome })
        return answer
      } finally {
        this.#underWay -= 1
      }
    }
    const options = z.strictObject({
      rows: z.int().default(1).describe('Rows of a message.'),
      endpoints: z.array(z.string()).default(['here']).describe('Endpoints.'),
    })
    return defineConsumer({
      summary: 'Takes messages in memory.',
      options,
      example: {},
      create: ({ rows, endpoints }) => ({
        takes: 'messages',
        endpoints,
        batch: { rows, bytes: 1_000_000 },
        body: rows === 1 ? 'one' : 'list',
        event: ({ data }) => data,
        attributes: () => ({}),
        send,
        close: async () => undefined,
      }),
    }) as ConsumerDefinition
  }
}
