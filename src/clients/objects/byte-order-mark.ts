import { AdflowError } from '../../core/errors.ts'
import type { Window } from '../../records/window.ts'

/** Passes a UTF-8 byte order mark at the start of a source, which the engine would take for data. Throws on UTF-16. */
export async function skipByteOrderMark(window: Window, origin: string): Promise<void> {
  while (window.length < 3 && (await window.fill(3 - window.length)) > 0);
  const [first, second, third] = window.bytes.subarray(window.start, window.end)
  if (first === 0xef && second === 0xbb && third === 0xbf) window.consume(3)
  if ((first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff))
    throw new AdflowError('SOURCE_UNSUPPORTED', `${origin} is UTF-16, and only UTF-8 is read`, {
      hint: 'convert it: `iconv -f UTF-16 -t UTF-8`',
    })
}
