/** All kinds of servers, by name. */
import clickhouse from './clickhouse.ts'
import kafka from './kafka.ts'
import minio from './minio.ts'
import opensearch from './opensearch.ts'
import postgres from './postgres.ts'
import prometheus from './prometheus.ts'
import redis from './redis.ts'
import redisCluster from './redis-cluster.ts'
import s3 from './s3.ts'
import sftp from './sftp.ts'
import toxiproxy from './toxiproxy.ts'

/** In the order in which they are told. */
export const CATALOG = {
  postgres,
  clickhouse,
  redis,
  'redis-cluster': redisCluster,
  s3,
  minio,
  sftp,
  kafka,
  opensearch,
  prometheus,
  toxiproxy,
} as const

export type ServerName = keyof typeof CATALOG
export type EndpointOf<N extends ServerName> = Awaited<ReturnType<(typeof CATALOG)[N]['start']>>
export type OptionsOf<N extends ServerName> = Parameters<(typeof CATALOG)[N]['start']>[1]

export const SERVER_NAMES = Object.keys(CATALOG) as readonly ServerName[]

/** MinIO takes minutes to build and repeats what versitygw shows: only who names it gets it. */
export const USUAL_SERVERS: readonly ServerName[] = SERVER_NAMES.filter((name) => name !== 'minio')

export function isServerName(name: string): name is ServerName {
  return name in CATALOG
}
