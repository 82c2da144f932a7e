/** What the file of a component exports: what it is for, its options, and how one is made. Types only. */
import type { z } from 'zod'
import type { ComponentEnv, EngineAccess, Extractor, ExtractorEnv, Loader, LoaderEnv, Relation } from './contracts.ts'
import type { Diagnosable } from './diagnosis.ts'
import type { Discovery } from './discovery.ts'
import type { LoaderCheckEnv, LoaderRemark } from './loader-check.ts'
import type { CompiledStep, StepEnv } from './step-contract.ts'

export interface Definition<Kind extends string, Options> {
  readonly kind: Kind
  /** One sentence, for lists. */
  readonly summary: string
  /** A paragraph or more of Markdown for the reference page. */
  readonly description?: string
  readonly options: z.ZodType<Options>
  /** Options as they stand in a job file; validated and run by the conformance suite. */
  readonly example: Readonly<Record<string, unknown>>
}

export interface ExtractorDefinition<Options = unknown> extends Definition<'extractor', Options>, Diagnosable<Options> {
  /** Longest time in which a source of this kind gives nothing, where the job does not say `give_up_after`; milliseconds. Default: a
   *  minute for a source that cannot be read again, no limit for any other. */
  silenceMs?(options: Options): number
  /** It reads only lanes of its shard, where there is one, so that several processes can share a source. */
  readonly sharded?: true
  /** Folders outside chunkDir that chunks point into (files read in place). The engine resolves symbolic links before it
   *  checks a path, so these are real paths. Called before the session is locked. */
  access?(options: Options, env: ComponentEnv): EngineAccess
  /** What the system offers, where it can be asked. */
  readonly discovery?: Discovery
  create(options: Options, env: ExtractorEnv): Extractor
}

export interface StepDefinition<Options = unknown> extends Definition<'step', Options> {
  /** Options under which the example runs: columns and rows of its input, and the rows it must give. */
  readonly sample: {
    readonly columns: Readonly<Record<string, string>>
    readonly rows: readonly Readonly<Record<string, unknown>>[]
    readonly expect: readonly Readonly<Record<string, unknown>>[]
    /** Files that the options refer to, by path: their text. */
    readonly files?: Readonly<Record<string, string>>
  }
  /** Names of the outputs that the step has beside its own. */
  branches?(options: Options): readonly string[]
  compile(options: Options, input: Relation, env: StepEnv): Promise<CompiledStep>
}

export interface LoaderDefinition<Options = unknown> extends Definition<'loader', Options>, Diagnosable<Options> {
  /** For lint: what can be known without the store. Changes nothing; may also throw what `analysis` throws. */
  check?(options: Options, env: LoaderCheckEnv): Promise<readonly LoaderRemark[]>
  /** What the loader needs of the engine; called before the session is locked. */
  access?(options: Options, env: ComponentEnv): EngineAccess
  /** Its store is a file that one process at a time can write. */
  readonly oneProcess?: true
  create(options: Options, env: LoaderEnv): Loader
}
