/** The plain client of HTTP: gets so many pages, one after the other, and reads their bytes. Fails where they are not as many as they should be. */
import { request } from 'undici'

const [origin = '', pages = '0', expected = '0'] = process.argv.slice(2)
let bytes = 0
for (let page = 0; page < Number(pages); page += 1) {
  const { body } = await request(`${origin}/${page}`)
  for await (const piece of body) bytes += (piece as Buffer).length
}
if (bytes !== Number(expected)) throw new Error(`${bytes} bytes, expected ${expected}`)
