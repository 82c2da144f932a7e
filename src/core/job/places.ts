/** Places in a job file, by path, and how a mistake is shown there. */

/** Keys and list indexes from the root of the job file: ['transform', 0, 'derive', 'spend']. */
export type Path = readonly (string | number)[]

/** 1-based. */
export interface Place {
  readonly line: number
  readonly column: number
}

export const START_OF_FILE: Place = { line: 1, column: 1 }

/** Where keys and values start, as offsets into the text. */
export class Places {
  readonly #toPlace: (offset: number) => Place
  readonly #values = new Map<string, number>()
  readonly #keys = new Map<string, number>()

  constructor(toPlace: (offset: number) => Place) {
    this.#toPlace = toPlace
  }

  set(path: Path, value: number, key: number): void {
    const name = JSON.stringify(path)
    this.#values.set(name, value)
    this.#keys.set(name, key)
  }

  has(path: Path): boolean {
    return this.#values.has(JSON.stringify(path))
  }

  /** Where the value starts. Where there is none: the key of the nearest map or entry around it. */
  value(path: Path): Place {
    const offset = this.#values.get(JSON.stringify(path))
    return offset === undefined ? this.key(path) : this.#toPlace(offset)
  }

  /** Where the key starts under which the value stands; for a list entry, the entry. */
  key(path: Path): Place {
    for (let length = path.length; length > 0; length--) {
      const offset = this.#keys.get(JSON.stringify(path.slice(0, length)))
      if (offset !== undefined) return this.#toPlace(offset)
    }
    return START_OF_FILE
  }
}

const WIDTH = 120

/** The source line with a caret under the place; long lines are cut around it. */
export function excerpt(text: string, place: Place): string {
  const line = text.split(/\r?\n/, place.line)[place.line - 1] ?? ''
  const from = place.column > WIDTH ? place.column - 1 - WIDTH / 2 : 0
  const shown = line.slice(from, from + WIDTH).replaceAll('\t', ' ')
  const margin = `${place.line} | `
  return `${margin}${shown}\n${' '.repeat(margin.length - 2)}| ${' '.repeat(place.column - 1 - from)}^`
}
