/** One statement over HTTP. @throws Error with what the server says. */
export async function queryClickHouse(url: string, sql: string): Promise<string> {
  const { username, password, origin } = new URL(url)
  const answer = await fetch(origin, {
    method: 'POST',
    headers: { authorization: `Basic ${Buffer.from(`${username}:${password}`).toString('base64')}` },
    body: sql,
  })
  const said = await answer.text()
  if (!answer.ok) throw new Error(said)
  return said
}
