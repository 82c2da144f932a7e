/** Whoever only reads. No setting goes with a statement that is not needed: a user with readonly = 1 may give none. */
import type { Role } from './connect.ts'
import { explainSource } from './source-errors.ts'

export const READER: Role = { settings: () => ({}), explain: explainSource }
