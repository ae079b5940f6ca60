/** The two ways to count hits in a sliding window. Times never run backwards here: the caller passes the latest it has seen. */

/** What a window says about a cost, in its own terms. */
export interface WindowState {
  /** What is counted within the window. */
  readonly used: number
  /** How long until `cost` fits under `limit` when nothing more is spent; 0 for now. */
  readonly waitMs: number
  /** When nothing is counted any more. */
  readonly emptyAtMs: number
}

/** Counts hits of one limit. */
export interface RateWindow {
  /** How much memory it takes, in hits remembered. */
  readonly weight: number
  look(nowMs: number, windowMs: number, limit: number, cost: number): WindowState
  spend(nowMs: number, windowMs: number, cost: number): void
}

/** Remembers every hit; hits of one millisecond are one entry. */
export class ExactLog implements RateWindow {
  #times: number[] = []
  #costs: number[] = []
  #first = 0
  #used = 0

  get weight(): number {
    return this.#times.length - this.#first + 1
  }

  look(nowMs: number, windowMs: number, limit: number, cost: number): WindowState {
    this.#forget(nowMs - windowMs)
    const last = this.#times.at(-1)
    return {
      used: this.#used,
      waitMs: this.#wait(nowMs, windowMs, this.#used + cost - limit),
      emptyAtMs: this.#used === 0 || last === undefined ? nowMs : last + windowMs,
    }
  }

  spend(nowMs: number, _windowMs: number, cost: number): void {
    this.#used += cost
    const last = this.#times.length - 1
    if (last >= this.#first && this.#times[last] === nowMs) {
      this.#costs[last] = (this.#costs[last] ?? 0) + cost
      return
    }
    this.#times.push(nowMs)
    this.#costs.push(cost)
  }

  /** Until hits of at least `excess` have left. */
  #wait(nowMs: number, windowMs: number, excess: number): number {
    let left = excess
    for (let index = this.#first; left > 0 && index < this.#times.length; index++) {
      left -= this.#costs[index] ?? 0
      if (left <= 0) return (this.#times[index] ?? nowMs) + windowMs - nowMs
    }
    return 0
  }

  #forget(upToMs: number): void {
    while (this.#first < this.#times.length && (this.#times[this.#first] ?? 0) <= upToMs) {
      this.#used -= this.#costs[this.#first] ?? 0
      this.#first++
    }
    if (this.#first < 64 || this.#first * 2 < this.#times.length) return
    this.#times = this.#times.slice(this.#first)
    this.#costs = this.#costs.slice(this.#first)
    this.#first = 0
  }
}

/** Counts two aligned windows; the previous one weighs as much as it still overlaps the sliding one. */
export class WeightedWindows implements RateWindow {
  readonly weight = 1
  #index = 0
  #current = 0
  #previous = 0

  look(nowMs: number, windowMs: number, limit: number, cost: number): WindowState {
    this.#turn(nowMs, windowMs)
    const startMs = this.#index * windowMs
    const used = weigh(this.#previous, this.#current, nowMs - startMs, windowMs)
    let emptyAtMs = nowMs
    if (this.#current > 0) emptyAtMs = startMs + 2 * windowMs
    else if (this.#previous > 0) emptyAtMs = startMs + windowMs
    return { used, waitMs: this.#wait(nowMs - startMs, windowMs, limit - cost), emptyAtMs }
  }

  spend(nowMs: number, windowMs: number, cost: number): void {
    this.#turn(nowMs, windowMs)
    this.#current += cost
  }

  #turn(nowMs: number, windowMs: number): void {
    const index = Math.floor(nowMs / windowMs)
    if (index <= this.#index) return
    this.#previous = index === this.#index + 1 ? this.#current : 0
    this.#current = 0
    this.#index = index
  }

  /** Until at most `room` is used: within this window if the previous one's share can shrink enough, else in the next. */
  #wait(elapsedMs: number, windowMs: number, room: number): number {
    if (weigh(this.#previous, this.#current, elapsedMs, windowMs) <= room) return 0
    if (this.#current <= room) {
      return firstFit(this.#previous, this.#current, windowMs, room, elapsedMs) - elapsedMs
    }
    return windowMs - elapsedMs + firstFit(this.#current, 0, windowMs, room, 0)
  }
}

/** Rounded up: a fraction of a hit counts as one, so that the limit is never passed by rounding. */
function weigh(previous: number, current: number, elapsedMs: number, windowMs: number): number {
  return current + Math.ceil(previous * ((windowMs - elapsedMs) / windowMs))
}

/** The first whole millisecond of the window, from `fromMs` on, at which no more than `room` is used. */
function firstFit(previous: number, current: number, windowMs: number, room: number, fromMs: number): number {
  let low = fromMs
  let high = windowMs
  while (low < high) {
    const middle = Math.floor((low + high) / 2)
    if (weigh(previous, current, middle, windowMs) <= room) high = middle
    else low = middle + 1
  }
  return low
}
