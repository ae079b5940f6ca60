/** Values in order, with both ends in constant time: a ring in an array whose length is a power of two. */
import type { CacheValue } from "../../domain/cache/model.ts"

/** A value and what it counts. */
export interface ListItem {
  readonly value: CacheValue
  readonly bytes: number
}

const SMALLEST = 8

/** A list. */
export class Deque {
  #ring: (ListItem | undefined)[] = new Array<ListItem | undefined>(SMALLEST)
  #head = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  /** The item at an index from 0 to size - 1. */
  at(index: number): ListItem | undefined {
    return index < 0 || index >= this.#size ? undefined : this.#ring[(this.#head + index) & this.#mask]
  }

  push(end: "head" | "tail", item: ListItem): void {
    if (this.#size === this.#ring.length) this.#resize(this.#size * 2)
    if (end === "head") this.#head = (this.#head - 1) & this.#mask
    this.#ring[end === "head" ? this.#head : (this.#head + this.#size) & this.#mask] = item
    this.#size++
  }

  pop(end: "head" | "tail"): ListItem | undefined {
    if (this.#size === 0) return undefined
    const index = end === "head" ? this.#head : (this.#head + this.#size - 1) & this.#mask
    const item = this.#ring[index]
    this.#ring[index] = undefined
    if (end === "head") this.#head = (this.#head + 1) & this.#mask
    this.#size--
    if (this.#size < this.#ring.length / 4 && this.#ring.length > SMALLEST) {
      this.#resize(this.#ring.length / 2)
    }
    return item
  }

  get #mask(): number {
    return this.#ring.length - 1
  }

  #resize(length: number): void {
    const ring = new Array<ListItem | undefined>(length)
    for (let index = 0; index < this.#size; index++) ring[index] = this.at(index)
    this.#ring = ring
    this.#head = 0
  }
}
