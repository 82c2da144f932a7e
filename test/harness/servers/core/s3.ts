/** What all S3-compatible servers of the harness share. */
export interface S3Endpoint extends Record<string, string> {
  readonly url: string
  readonly accessKeyId: string
  readonly secretAccessKey: string
  readonly region: string
}

export const S3_KEYS = { accessKeyId: 'adflow', secretAccessKey: 'adflow-secret', region: 'us-east-1' } as const
