/** What can be known of the options without the server. */
import type { LoaderRemark } from '../../core/loader-check.ts'
import { isThisMachine } from '../../core/this-machine.ts'
import type { BucketOptions } from './options.ts'

export function bucketRemarks(
  { endpoint }: Pick<BucketOptions, 'endpoint'>,
  path: readonly (string | number)[],
): LoaderRemark[] {
  if (endpoint === undefined || endpoint.startsWith('https:')) return []
  const { hostname } = new URL(endpoint)
  if (isThisMachine(hostname)) return []
  return [
    {
      kind: 'warning',
      message: `the connection to ${hostname} is not encrypted, and nobody checks who answers`,
      hint: 'name the server by `https://`, and its authority in `tls.ca` where it is your own',
      path: [...path, 'endpoint'],
    },
  ]
}
