/** The documents taken apart: fenced blocks, the commands in them, links, headings. */
import { filesUnder, textOf } from './repository.ts'

export interface Block {
  /** `README.md:12`: the first line inside the fence. */
  readonly at: string
  readonly language: string
  readonly text: string
}

/** Documents written by hand; those under docs/components are generated and have tests of their own. */
export function documents(): string[] {
  const docs = filesUnder('docs').filter((path) => path.endsWith('.md') && !path.startsWith('docs/components/'))
  return [...filesUnder().filter((path) => /^[A-Z]+\.md$/.test(path)), ...docs]
}

export function blocksOf(path: string): Block[] {
  const blocks: Block[] = []
  let open: { language: string; line: number; lines: string[] } | undefined
  for (const [index, line] of textOf(path).split('\n').entries()) {
    const fence = /^```(\w*)/.exec(line)
    if (fence === null) open?.lines.push(line)
    else if (open === undefined) open = { language: fence[1] ?? '', line: index + 2, lines: [] }
    else {
      blocks.push({ at: `${path}:${open.line}`, language: open.language, text: open.lines.join('\n') })
      open = undefined
    }
  }
  if (open !== undefined) throw new Error(`${path}:${open.line}: the block is not closed`)
  return blocks
}

/** Words of each command of a shell block; comments, pipes, redirections and variables in front are taken off. */
export function commandsOf(shell: string): string[][] {
  const commands: string[][] = []
  let words: string[] = []
  const end = () => {
    while (/^[A-Z_]+=/.test(words[0] ?? '')) words.shift()
    if (words.length > 0) commands.push(words)
    words = []
  }
  const tokens = shell
    .replaceAll('\\\n', ' ')
    .matchAll(/(?<word>(?:"[^"]*"|'[^']*'|[^\s"'|&;<>#]|(?<=\S)#)+)|(?<end>\n|\|\|?|&&|;)|#.*|(?<into>[0-9]?[<>]+&?)/g)
  let redirected = false
  for (const { groups = {} } of tokens) {
    if (groups['end'] !== undefined) end()
    else if (groups['into'] !== undefined) redirected = true
    else if (groups['word'] !== undefined && redirected) redirected = false
    else if (groups['word'] !== undefined) words.push(groups['word'].replaceAll(/["']/g, ''))
  }
  end()
  return commands
}

/** Targets of Markdown links, outside code. */
export function linksOf(path: string): string[] {
  const prose = textOf(path)
    .replaceAll(/^```[\s\S]*?^```/gm, '')
    .replaceAll(/`[^`\n]*`/g, '')
  return [...prose.matchAll(/\]\((?<target>[^)\s]+)\)/g)].map(({ groups }) => groups?.['target'] ?? '')
}

/** Anchors that GitHub gives the headings of a document. */
export function anchorsOf(path: string): Set<string> {
  const headings = textOf(path)
    .replaceAll(/^```[\s\S]*?^```/gm, '')
    .matchAll(/^#+ (?<text>.+)$/gm)
  return new Set(
    [...headings].map(({ groups }) =>
      (groups?.['text'] ?? '')
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
        .replaceAll(' ', '-'),
    ),
  )
}
