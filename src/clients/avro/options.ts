/** Where the schema of Avro values comes from. */
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { z } from 'zod'
import { AdflowError } from '../../core/errors.ts'
import { duration } from '../../core/job/units.ts'
import { tlsOptions } from '../../core/tls.ts'
import { authOptions } from '../http/auth.ts'
import { type AvroSchema, parseSchema, schemaOf } from './schema.ts'

export const registryOptions = z
  .strictObject({
    url: z
      .url({ protocol: /^https?$/ })
      .describe('Address of the registry, with its path where it has one: `https://registry.example/apis/ccompat/v7`.'),
    auth: authOptions.optional(),
    tls: tlsOptions.optional(),
    timeout: duration.prefault('10s').describe('For one answer, all of it.'),
    attempts: z.int().min(1).default(5).describe('How often a schema is asked for before there is a gap.'),
    allow_private: z
      .boolean()
      .default(false)
      .describe('true: also a host of this machine or of a private network. Cloud metadata services stand there too.'),
  })
  .describe(
    'Schema registry with the API of Confluent (Karapace and Apicurio have it, too). Each value begins with a zero byte and the id of its schema.',
  )

export const avroOptions = z
  .strictObject({
    schema: z
      .union([z.string().min(1), z.record(z.string(), z.unknown()), z.array(z.unknown())])
      .optional()
      .describe('The schema with which all values were written, here in the job.'),
    schema_file: z.string().min(1).optional().describe('The same in a file (`.avsc`), relative to the job file.'),
    registry: registryOptions.optional(),
  })
  .superRefine((chosen, context) => {
    const { schema, schema_file, registry } = chosen
    if ([schema, schema_file, registry].filter((given) => given !== undefined).length !== 1)
      context.addIssue({ code: 'custom', message: 'say one of `schema`, `schema_file` and `registry`' })
    try {
      if (schema !== undefined) inJob(schema)
    } catch (error) {
      context.addIssue({ code: 'custom', path: ['schema'], message: `the schema ${(error as Error).message}` })
    }
  })
  .describe('Where the schema of Avro values comes from: one of the three.')

export type AvroOptions = z.infer<typeof avroOptions>
export type RegistryOptions = z.infer<typeof registryOptions>

/** The one that the job gives. undefined: the registry has it. @throws AdflowError JOB_INVALID */
export function jobSchema({ schema, schema_file }: AvroOptions, baseDir: string): AvroSchema | undefined {
  if (schema !== undefined) return inJob(schema)
  if (schema_file === undefined) return undefined
  try {
    return parseSchema(readFileSync(resolve(baseDir, schema_file), 'utf8'))
  } catch (error) {
    throw new AdflowError('JOB_INVALID', `the Avro schema in ${schema_file}: ${(error as Error).message}`, {
      cause: error,
      hint: 'name a file with one schema in JSON; paths are relative to the job file',
    })
  }
}

function inJob(schema: NonNullable<AvroOptions['schema']>): AvroSchema {
  return typeof schema === 'string' ? parseSchema(schema) : schemaOf(schema)
}
