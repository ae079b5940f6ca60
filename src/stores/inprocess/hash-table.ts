/** Fields in the order in which they were made. */
import type { CacheValue } from "../../domain/cache/model.ts"

/** A field's value, what it counts, and its place in the order. */
export interface HashSlot {
  readonly value: CacheValue
  readonly bytes: number
  readonly place: number
}

/** A hash. An undo puts a deleted field back at its place. */
export class HashTable {
  #slots = new Map<string, HashSlot>()
  #places = 0

  get size(): number {
    return this.#slots.size
  }

  get(name: string): HashSlot | undefined {
    return this.#slots.get(name)
  }

  /** Sets a field; an existing one keeps its place. */
  set(name: string, value: CacheValue, bytes: number): void {
    this.#slots.set(name, { value, bytes, place: this.#slots.get(name)?.place ?? this.#places++ })
  }

  delete(name: string): void {
    this.#slots.delete(name)
  }

  /** Puts a field back as it was: undefined means that it was not there. */
  restore(name: string, slot: HashSlot | undefined): void {
    if (slot === undefined) {
      this.#slots.delete(name)
      return
    }
    const inPlace = this.#slots.has(name)
    this.#slots.set(name, slot)
    if (inPlace) return
    this.#slots = new Map([...this.#slots].sort(([, left], [, right]) => left.place - right.place))
  }

  entries(): IterableIterator<[string, HashSlot]> {
    return this.#slots.entries()
  }
}
