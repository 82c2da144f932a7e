/** Which dead letters a command means. */
import { Args, Flags } from '@oclif/core'
import { AdflowError } from '../core/errors.ts'
import type { LetterFilter } from '../distribute/dead-letters.ts'

export const letterArgs = {
  job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
  ids: Args.string({ multiple: true, description: 'Ids of dead letters.' }),
}

export const letterFlags = {
  consumer: Flags.string({ helpValue: 'CONSUMER', description: 'Only those of this consumer.' }),
  matching: Flags.string({ helpValue: 'TEXT', description: 'Only those with this text in their reason.' }),
}

interface Given {
  readonly consumer?: string | undefined
  readonly matching?: string | undefined
}

export function letterFilter(ids: readonly string[] | undefined, { consumer, matching }: Given): LetterFilter {
  return {
    ids: ids ?? [],
    ...(consumer === undefined ? {} : { consumer }),
    ...(matching === undefined ? {} : { matching }),
  }
}

/** @throws AdflowError USAGE where nothing says which letters are meant: all of them must be meant on purpose. */
export function chosenLetters(
  ids: readonly string[] | undefined,
  flags: Given & { readonly all: boolean },
): LetterFilter {
  const filter = letterFilter(ids, flags)
  if (filter.ids.length === 0 && filter.consumer === undefined && filter.matching === undefined && !flags.all)
    throw new AdflowError('USAGE', 'which dead letters?', {
      hint: 'name their ids, or say --consumer, --matching or --all',
    })
  return filter
}
