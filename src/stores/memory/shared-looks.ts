/**
 * Looks at collections, which many calls want to take at the same time: all that come while one is under way share the next one, which begins
 * after they came, so that each is told how its collection is now. Where many come, looks begin some milliseconds apart; the searches that
 * go on beside them take longer. Who is alone waits for nobody.
 */
import { type CallScope, scopeWith, systemScope } from "../../domain/kernel/scope.ts"
import { endedScope } from "../../domain/kernel/wake-ups.ts"

/** Longest time that a timer can be set to. */
const LONGEST_MS = 2 ** 31 - 1
/** Between the end of a look while which others came, and the next one. */
const PAUSE_MS = 5

/** One look. */
export type Look<T> = (scope: CallScope, id: string) => Promise<T>

interface Waiting<T> {
  readonly scope: CallScope
  resolve(value: T): void
  reject(error: unknown): void
}

/** See the file's comment. */
export class SharedLooks<T> {
  readonly #look: Look<T>
  /** Those who came while a look was under way, by what they want to look at. */
  readonly #lines = new Map<string, Waiting<T>[]>()

  constructor(look: Look<T>) {
    this.#look = look
  }

  /** As the look itself, which ends with the scope. */
  take(scope: CallScope, id: string): Promise<T> {
    const key = `${scope.tenant} ${id}`
    const line = this.#lines.get(key)
    if (line !== undefined) return this.#wait(line, scope)
    this.#lines.set(key, [])
    return this.#begin(key, scope, id)
  }

  async #begin(key: string, scope: CallScope, id: string): Promise<T> {
    try {
      return await this.#look(scope, id)
    } finally {
      if (this.#lines.get(key)?.length === 0) this.#lines.delete(key)
      else setTimeout(() => this.#next(key, id), PAUSE_MS)
    }
  }

  #next(key: string, id: string): void {
    const line = this.#lines.get(key) ?? []
    const [first] = line
    // They may have left.
    if (first === undefined) this.#lines.delete(key)
    else {
      this.#lines.set(key, [])
      void this.#answer(line, this.#begin(key, together(line, first), id))
    }
  }

  async #answer(line: readonly Waiting<T>[], look: Promise<T>): Promise<void> {
    try {
      const value = await look
      for (const each of line) each.resolve(value)
    } catch (error) {
      for (const each of line) each.reject(error)
    }
  }

  #wait(line: Waiting<T>[], scope: CallScope): Promise<T> {
    const { signal } = scope
    return new Promise((resolve, reject) => {
      const leave = () => {
        end()
        const at = line.indexOf(waiting)
        if (at >= 0) line.splice(at, 1)
        reject(endedScope(scope))
      }
      const left = scope.deadlineMs - Date.now()
      const timer = left <= LONGEST_MS ? setTimeout(leave, Math.max(0, left)) : undefined
      const end = () => {
        clearTimeout(timer)
        signal.removeEventListener("abort", leave)
      }
      const waiting: Waiting<T> = {
        scope,
        resolve: (value) => {
          end()
          resolve(value)
        },
        reject: (error) => {
          end()
          reject(error)
        },
      }
      line.push(waiting)
      signal.addEventListener("abort", leave, { once: true })
      if (signal.aborted) leave()
    })
  }
}

/** For a look that is several calls': as long as the longest of them. */
function together<T>(line: readonly Waiting<T>[], { scope }: Waiting<T>): CallScope {
  const deadlineMs = line.reduce((latest, each) => Math.max(latest, each.scope.deadlineMs), 0)
  return scopeWith(scope, { deadlineMs, signal: systemScope(scope.tenant).signal, idempotency: undefined })
}
