/** What a step knows of its lineage beyond `from` of its columns. Columns are those that the step reads. */

/** `computed`: by an expression. `aggregated`: from many rows. `found`: looked up by these columns. */
export type ColumnOrigin = 'computed' | 'aggregated' | 'found'

export interface StepLineage {
  /** Output column → the column of a reference table that gives its value. */
  readonly finds?: Readonly<Record<string, { readonly reference: string; readonly column: string }>>
  /** What decides which rows there are, though its value may stand nowhere: filters, groups, keys. */
  readonly decides?: { readonly by: 'filter' | 'group' | 'join'; readonly columns: readonly string[] }
}
