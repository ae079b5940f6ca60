/**
 * What the records of an owner weigh, as far as it was seen: whether many may be read at once without being weighed first, which would be
 * one wait for the server more. It may be wrong where another daemon writes; then an answer is heavier than it should have been, once.
 */

/** So many records weigh little enough in any case. */
const FEW_ROWS = 16
const MOST_ROWS = 512
/** What records may weigh together that are read without having been weighed. */
const LIGHT_BYTES = 2 * 1024 * 1024
/** A record that was heavy and does not come again is forgotten little by little. */
const KEPT_SHARE = 0.95
const MOST_OWNERS = 10_000

/** See the file's comment. */
export class Weights {
  /** The heaviest record by owner. */
  readonly #heaviest = new Map<string, number>()

  /** Whether so many records of an owner are known to be light. `each` is what every one of them weighs besides. */
  areLight(owner: string, rows: number, each: number): boolean {
    if (rows <= FEW_ROWS) return true
    const heaviest = this.#heaviest.get(owner)
    return heaviest !== undefined && rows <= MOST_ROWS && rows * (heaviest + each) <= LIGHT_BYTES
  }

  /** The heaviest record of an owner that was seen, for as long as it is remembered. */
  heaviest(owner: string): number {
    return this.#heaviest.get(owner) ?? 0
  }

  /** The server has answered with records of which the heaviest weighs so much. */
  seen(owner: string, bytes: number): void {
    this.#keep(owner, Math.max(bytes, KEPT_SHARE * this.heaviest(owner)))
  }

  /** A record is about to be written. Of an owner of whom nothing is known it says nothing. */
  written(owner: string, bytes: number): void {
    const heaviest = this.#heaviest.get(owner)
    if (heaviest !== undefined && bytes > heaviest) this.#keep(owner, bytes)
  }

  #keep(owner: string, bytes: number): void {
    if (this.#heaviest.size >= MOST_OWNERS && !this.#heaviest.has(owner)) this.#heaviest.clear()
    this.#heaviest.set(owner, bytes)
  }
}
