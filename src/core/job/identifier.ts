/** Names in a job file. */
import { z } from 'zod'

const SNAKE_HELP = 'must be lower_snake: letters a-z, digits and `_`, starting with a letter, at most 63 characters'

/** Names of jobs, sources, loaders, steps and rules. */
export const identifier = z.string().regex(/^[a-z][a-z0-9_]{0,62}$/, SNAKE_HELP)
