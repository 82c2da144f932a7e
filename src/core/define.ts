/** Constructors of component definitions. They only give the options their inferred type; discovery is by file name. */
import type { z } from 'zod'
import type { ConsumerDefinition } from './consumer.ts'
import type { ExtractorDefinition, LoaderDefinition, StepDefinition } from './definitions.ts'
import type { TransportDefinition } from './transport.ts'

type Spec<D, Schema extends z.ZodType> = Omit<D, 'kind' | 'options'> & { readonly options: Schema }

export function defineExtractor<Schema extends z.ZodType>(
  spec: Spec<ExtractorDefinition<z.infer<Schema>>, Schema>,
): ExtractorDefinition<z.infer<Schema>> {
  return { kind: 'extractor', ...spec } as ExtractorDefinition<z.infer<Schema>>
}

export function defineStep<Schema extends z.ZodType>(
  spec: Spec<StepDefinition<z.infer<Schema>>, Schema>,
): StepDefinition<z.infer<Schema>> {
  return { kind: 'step', ...spec } as StepDefinition<z.infer<Schema>>
}

export function defineLoader<Schema extends z.ZodType>(
  spec: Spec<LoaderDefinition<z.infer<Schema>>, Schema>,
): LoaderDefinition<z.infer<Schema>> {
  return { kind: 'loader', ...spec } as LoaderDefinition<z.infer<Schema>>
}

export function defineConsumer<Schema extends z.ZodType>(
  spec: Spec<ConsumerDefinition<z.infer<Schema>>, Schema>,
): ConsumerDefinition<z.infer<Schema>> {
  return { kind: 'consumer', ...spec } as ConsumerDefinition<z.infer<Schema>>
}

export function defineTransport<Schema extends z.ZodType>(
  spec: Spec<TransportDefinition<z.infer<Schema>>, Schema>,
): TransportDefinition<z.infer<Schema>> {
  return { kind: 'transport', ...spec } as TransportDefinition<z.infer<Schema>>
}
