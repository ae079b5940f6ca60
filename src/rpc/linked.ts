/** A list whose members carry their neighbours, for what comes and goes with every call: no allocation, no hashing. */

/** What a member of a {@link Linked} carries; it can be in one list at a time. */
export interface Link<T> {
  newer: T | undefined
  older: T | undefined
}

/** Members in the order in which they came, the newest first. */
export class Linked<T extends Link<T>> {
  #first: T | undefined
  #size = 0

  get size(): number {
    return this.#size
  }

  /** Adds an item that is in no list. */
  add(item: T): void {
    const first = this.#first
    item.older = first
    if (first !== undefined) first.newer = item
    this.#first = item
    this.#size++
  }

  /** Removes an item; false where it is not in the list. */
  delete(item: T): boolean {
    const { newer, older } = item
    if (newer === undefined && this.#first !== item) return false
    if (newer === undefined) this.#first = older
    else newer.older = older
    if (older !== undefined) older.newer = newer
    item.newer = undefined
    item.older = undefined
    this.#size--
    return true
  }

  /** All members as they are now. */
  all(): T[] {
    const items: T[] = []
    for (let item = this.#first; item !== undefined; item = item.older) items.push(item)
    return items
  }
}
