/**
 * Members in order of (score, member), with look-up by rank and by score in logarithmic time: a skip list whose links know how
 * many members they pass over.
 */

/** Called for every member of a range, in order. */
export type Visit = (member: string, score: number, rank: number) => void

interface Node {
  readonly member: string
  readonly score: number
  /** Per level, the next node and how many ranks it is away. */
  readonly next: (Node | undefined)[]
  readonly span: number[]
  previous: Node | undefined
}

const HIGHEST = 24

/** See the file's comment. It does not know whether a member is there already: its owner does. */
export class SkipList {
  readonly #head: Node = node("", Number.NEGATIVE_INFINITY, HIGHEST)
  #last: Node | undefined
  #levels = 1
  #size = 0
  #seed = 0x9e3779b9

  get size(): number {
    return this.#size
  }

  /** Adds a member that is not there. */
  insert(member: string, score: number): void {
    const before: Node[] = []
    const ranks: number[] = []
    let at = this.#head
    let rank = 0
    for (let level = this.#levels - 1; level >= 0; level--) {
      for (
        let next = at.next[level];
        next !== undefined && isBefore(next, score, member);
        next = at.next[level]
      ) {
        rank += at.span[level] ?? 0
        at = next
      }
      before[level] = at
      ranks[level] = rank
    }
    const made = node(member, score, this.#randomHeight())
    for (let level = this.#levels; level < made.next.length; level++) {
      before[level] = this.#head
      ranks[level] = 0
      this.#head.span[level] = this.#size
    }
    this.#levels = Math.max(this.#levels, made.next.length)
    for (let level = 0; level < this.#levels; level++) {
      const left = before[level] ?? this.#head
      const passed = rank - (ranks[level] ?? 0)
      const span = left.span[level] ?? 0
      if (level >= made.next.length) {
        left.span[level] = span + 1
        continue
      }
      made.next[level] = left.next[level]
      made.span[level] = span - passed
      left.next[level] = made
      left.span[level] = passed + 1
    }
    made.previous = before[0] === this.#head ? undefined : before[0]
    const after = made.next[0]
    if (after === undefined) this.#last = made
    else after.previous = made
    this.#size++
  }

  /** Removes a member that is there with this score. */
  delete(member: string, score: number): void {
    let at = this.#head
    const before: Node[] = []
    for (let level = this.#levels - 1; level >= 0; level--) {
      for (
        let next = at.next[level];
        next !== undefined && isBefore(next, score, member);
        next = at.next[level]
      ) {
        at = next
      }
      before[level] = at
    }
    const gone = before[0]?.next[0]
    if (gone === undefined || gone.member !== member) return
    for (let level = 0; level < this.#levels; level++) {
      const left = before[level] ?? this.#head
      const passes = left.next[level] === gone
      left.span[level] = (left.span[level] ?? 0) + (passes ? (gone.span[level] ?? 0) : 0) - 1
      if (passes) left.next[level] = gone.next[level]
    }
    const after = gone.next[0]
    if (after === undefined) this.#last = gone.previous
    else after.previous = gone.previous
    this.#size--
  }

  /** How many members come before (score, member). */
  rankOf(score: number, member: string): number {
    return this.#countWhile((next) => isBefore(next, score, member))
  }

  /** How many members have a score below `score`, or, with `inclusive`, at most `score`. */
  countBelow(score: number, inclusive: boolean): number {
    return this.#countWhile((next) => next.score < score || (inclusive && next.score === score))
  }

  /** Visits the members of ranks `from` to `to` (inclusive, within the list), descending with `reverse`. */
  visit(from: number, to: number, reverse: boolean, visit: Visit): void {
    let at = this.#at(reverse ? to : from)
    for (let rank = reverse ? to : from; at !== undefined && rank >= from && rank <= to; ) {
      visit(at.member, at.score, rank)
      at = reverse ? at.previous : at.next[0]
      rank += reverse ? -1 : 1
    }
  }

  #at(rank: number): Node | undefined {
    if (rank < 0 || rank >= this.#size) return undefined
    if (rank === this.#size - 1) return this.#last
    let at = this.#head
    let passed = -1
    for (let level = this.#levels - 1; level >= 0; level--) {
      for (let next = at.next[level]; next !== undefined; next = at.next[level]) {
        const target = passed + (at.span[level] ?? 0)
        if (target > rank) break
        passed = target
        at = next
      }
    }
    return at
  }

  #countWhile(holds: (next: Node) => boolean): number {
    let at = this.#head
    let count = 0
    for (let level = this.#levels - 1; level >= 0; level--) {
      for (let next = at.next[level]; next !== undefined && holds(next); next = at.next[level]) {
        count += at.span[level] ?? 0
        at = next
      }
    }
    return count
  }

  /** Height n or more with probability 4^(1-n), by xorshift: the same sequence in every run, so that a defect is repeatable. */
  #randomHeight(): number {
    let bits = this.#seed
    bits ^= bits << 13
    bits ^= bits >>> 17
    bits ^= bits << 5
    this.#seed = bits
    const height = 1 + (Math.clz32(bits >>> 0) >> 1)
    return Math.min(height, HIGHEST)
  }
}

function node(member: string, score: number, height: number): Node {
  return {
    member,
    score,
    next: new Array<Node | undefined>(height).fill(undefined),
    span: new Array<number>(height).fill(0),
    previous: undefined,
  }
}

function isBefore(left: Node, score: number, member: string): boolean {
  return left.score < score || (left.score === score && left.member < member)
}
