/** Two SELECTs with the same columns: have they the same rows, whatever their order? */

/** SELECT of one boolean. A sum of hashes: a row that is missing and one that is doubled do not cancel out. */
export function sameRows(one: string, other: string): string {
  const digest = (select: string) => `(SELECT (count(*), sum(hash(t)))::VARCHAR FROM (${select}) AS t)`
  return `SELECT ${digest(one)} = ${digest(other)} AS same`
}
