/** Names for statements whose text is made at run time, so that the server parses and plans those that come again only once. */

/** How many texts of one kind have a name at a time: each costs every connection of the server a plan's memory. */
const NAMED = 32
/** How many texts are remembered that came once. */
const SEEN = 128

/** Gives names to the texts that came last and more than once. A name may pass on to another text; connections then prepare it anew. */
export class StatementNames {
  readonly #prefix: string
  readonly #names = new Map<string, string>()
  readonly #seen = new Set<string>()

  /** `prefix` must be no other statement's. */
  constructor(prefix: string) {
    this.#prefix = prefix
  }

  /** The text's name; undefined for one that has none (yet). */
  of(text: string): string | undefined {
    const known = this.#names.get(text)
    if (known !== undefined) {
      this.#names.delete(text)
      this.#names.set(text, known)
      return known
    }
    if (!this.#seen.delete(text)) {
      this.#remember(text)
      return undefined
    }
    const name = this.#names.size < NAMED ? `${this.#prefix}_${this.#names.size}` : this.#freed()
    this.#names.set(text, name)
    return name
  }

  #remember(text: string): void {
    const { value: oldest } = this.#seen.values().next()
    if (oldest !== undefined && this.#seen.size >= SEEN) this.#seen.delete(oldest)
    this.#seen.add(text)
  }

  /** Takes the name from the text that was not asked for longest. */
  #freed(): string {
    for (const [text, name] of this.#names) {
      this.#names.delete(text)
      return name
    }
    throw new Error("no names")
  }
}
