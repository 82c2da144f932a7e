/** Lines of a chunk that adflow has written itself. */
import { lines } from '../../records/lines.ts'
import { visitRecords } from '../../records/locate.ts'
import { LocalFile } from './local-file.ts'

export async function storedLines(path: string, ordinals: readonly number[]): Promise<Buffer[]> {
  const found: Buffer[] = []
  const opened = await LocalFile.open(path)
  try {
    const layout = { from: 0, linesBefore: 0, excluded: [] }
    await visitRecords(
      async () => opened.forward(0),
      lines,
      layout,
      ordinals,
      (_, record) => found.push(Buffer.from(record)),
    )
  } finally {
    await opened.close()
  }
  return found
}
