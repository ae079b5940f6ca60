/** How many requests are out, and who waits for one of them to come back. */
import type { CallScope } from "../../domain/kernel/scope.ts"
import { overloaded, scopeEnded } from "./errors.ts"

/** Bounds the requests that are under way at the same time; first come, first served. */
export class Flight {
  readonly #max: number
  readonly #maxWaiting: number
  readonly #queue = new Set<() => void>()
  #out = 0
  #onEmpty: (() => void)[] = []

  constructor(max: number, maxWaiting: number) {
    this.#max = max
    this.#maxWaiting = maxWaiting
  }

  /** Requests that are out, those of callers who gave up included. */
  get out(): number {
    return this.#out
  }

  /** Callers that wait for their turn. */
  get waiting(): number {
    return this.#queue.size
  }

  /** Takes a place. Rejects with OVERLOADED where too many wait, DEADLINE_EXCEEDED or CANCELLED when the scope ends. */
  async take(scope: CallScope): Promise<void> {
    if (this.#out < this.#max) {
      this.#out++
      return
    }
    if (this.#queue.size >= this.#maxWaiting)
      throw overloaded("too many calls wait for the event store; nothing was applied")
    await new Promise<void>((resolve, reject) => {
      const end = () => {
        done()
        reject(scopeEnded(scope))
      }
      const turn = () => {
        done()
        resolve()
      }
      const timer = Number.isFinite(scope.deadlineMs)
        ? setTimeout(end, Math.max(0, scope.deadlineMs - Date.now()))
        : undefined
      const done = () => {
        clearTimeout(timer)
        scope.signal.removeEventListener("abort", end)
        this.#queue.delete(turn)
      }
      this.#queue.add(turn)
      if (scope.signal.aborted) end()
      else scope.signal.addEventListener("abort", end, { once: true })
    })
  }

  /** Gives the place to the next one. */
  give(): void {
    const [next] = this.#queue
    if (next !== undefined) {
      next()
      return
    }
    this.#out--
    if (this.#out === 0) for (const resolve of this.#onEmpty.splice(0)) resolve()
  }

  /** Resolves when nothing is out, or after `ms`. */
  async empty(ms: number): Promise<void> {
    if (this.#out === 0) return
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#onEmpty.push(() => {
        clearTimeout(timer)
        resolve()
      })
    })
  }
}
