/** Flags and arguments that the stages of a pipe share. */
import { Args, Flags } from '@oclif/core'

export const stageFlags = {
  rejects: Flags.string({
    helpValue: 'FILE',
    description: 'Write refused records there, as NDJSON: place, rule, reason and the record as it came.',
  }),
  strict: Flags.boolean({ description: 'Exit 10 when records were refused or a rule warned.' }),
  quiet: Flags.boolean({ char: 'q', description: 'No counts on stderr.' }),
}

/** Standard output is for rows, so that these commands have a --json of their own. */
export const countsAsJson = Flags.boolean({ helpGroup: 'GLOBAL', description: 'Counts on stderr as one line of JSON.' })

export const stageArgs = {
  job: Args.string({ required: true, description: 'Job file, or the name of a job in ./jobs.' }),
  files: Args.string({
    multiple: true,
    description: 'NDJSON files in the place of standard input; - is standard input.',
  }),
}
