/** Options by which a component reaches a Kafka cluster. */
import { z } from 'zod'
import { duration } from '../../core/job/units.ts'
import { tlsModeShape } from '../../core/tls.ts'

const ADDRESS = String.raw`(?:\[[0-9A-Fa-f:.]+\]|[^\s,:/]+):\d{1,5}`

export const connectionShape = {
  brokers: z
    .string()
    .regex(new RegExp(`^${ADDRESS}(?:,${ADDRESS})*$`), 'expected `host:9092`, or several with commas between')
    .describe('Addresses by which the cluster is found: `kafka-1:9092,kafka-2:9092`. One that answers is enough.'),
  tls: z
    .strictObject(tlsModeShape)
    .prefault({})
    .describe('How the connections are secured. Paths are relative to the job file.'),
  sasl: z
    .strictObject({
      mechanism: z
        .enum(['plain', 'scram-sha-256', 'scram-sha-512'])
        .default('scram-sha-512')
        .describe('As the listener of the brokers has it.'),
      username: z.string().min(1).describe('User of the cluster.'),
      password: z
        .string()
        .min(1)
        .describe('Password of the user: `${KAFKA_PASSWORD}` or `${file:/run/secrets/kafka}`.'),
    })
    .optional()
    .describe('How the client says who it is, where the brokers ask.'),
  connect_timeout: duration.prefault('10s').describe('How long a connection may take to open.'),
  request_timeout: duration
    .prefault('30s')
    .describe('How long a broker may take to answer a request; then the write is tried again.'),
} as const

export type ConnectionOptions = z.infer<z.ZodObject<typeof connectionShape>>
