/** Members with scores: by member through a map, in order through a skip list. */
import { SkipList, type Visit } from "./skip-list.ts"

/** A sorted set. */
export class SortedSet {
  readonly #scores = new Map<string, number>()
  readonly #order = new SkipList()

  get size(): number {
    return this.#scores.size
  }

  score(member: string): number | undefined {
    return this.#scores.get(member)
  }

  /** Adds a member or moves it. */
  set(member: string, score: number): void {
    const before = this.#scores.get(member)
    if (before === score) return
    if (before !== undefined) this.#order.delete(member, before)
    this.#scores.set(member, score)
    this.#order.insert(member, score)
  }

  /** Removes a member if it is there. */
  delete(member: string): void {
    const before = this.#scores.get(member)
    if (before === undefined) return
    this.#order.delete(member, before)
    this.#scores.delete(member)
  }

  /** The rank of a member that is there, ascending from 0. */
  rank(member: string): number {
    return this.#order.rankOf(this.#scores.get(member) ?? 0, member)
  }

  /** How many members have a score below `score`, or, with `inclusive`, at most `score`. */
  countBelow(score: number, inclusive: boolean): number {
    return this.#order.countBelow(score, inclusive)
  }

  /** Visits ranks `from` to `to`, both inclusive. */
  visit(from: number, to: number, reverse: boolean, visit: Visit): void {
    this.#order.visit(from, to, reverse, visit)
  }
}
