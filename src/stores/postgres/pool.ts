/** Lends connections: first come, first served, at most `max` at once. */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import {
  isServerFull,
  overloaded,
  scopeEnded,
  serverError,
  storeUnavailable,
  toDomainError,
} from "./errors.ts"
import type { Session, SessionRole } from "./session.ts"

/** How a pool behaves. Times in milliseconds. */
export interface PoolOptions {
  /** Makes a connection; rejects with the driver's error. */
  connect(): Promise<Session>
  /** Connections kept although idle. */
  readonly min: number
  /** Most connections at once. */
  readonly max: number
  /** Most callers that wait for one; more are shed with OVERLOADED. */
  readonly maxWaiting: number
  /** An idle connection over `min` is closed after this; Infinity keeps it. */
  readonly idleMs: number
  /** A connection is replaced after this, so that load balancers and failovers take effect; Infinity keeps it. */
  readonly lifetimeMs: number
  /** Longest wait for a connection, whatever the caller's deadline. */
  readonly acquireMs: number
}

/** What a pool is doing now. */
export interface PoolStats {
  readonly inUse: number
  readonly idle: number
  readonly waiting: number
}

interface Waiter {
  resolve(session: Session): void
  reject(error: unknown): void
}

/** The pool. */
export class Pool {
  readonly #options: PoolOptions
  readonly #idle: Session[] = []
  readonly #waiters = new Set<Waiter>()
  #inUse = 0
  #connecting = 0
  #closed = false
  #onDrained: (() => void) | undefined
  #reaper: NodeJS.Timeout | undefined

  constructor(options: PoolOptions) {
    this.#options = options
    const period = Math.min(options.idleMs, options.lifetimeMs)
    if (Number.isFinite(period))
      this.#reaper = setInterval(() => this.#reap(), Math.max(period / 2, 100)).unref()
  }

  stats(): PoolStats {
    const idle = this.#idle.filter(({ usable }) => usable).length
    return { inUse: this.#inUse, idle, waiting: this.#waiters.size }
  }

  /**
   * Borrows a connection in `role`. Give it back with {@link release}. Rejects with DEADLINE_EXCEEDED or CANCELLED when the
   * scope ends first, OVERLOADED when too many wait or the wait is too long, STORE_UNAVAILABLE when none can be made.
   */
  async acquire(scope: CallScope, role: SessionRole = "app"): Promise<Session> {
    if (scope.signal.aborted || scope.deadlineMs <= Date.now()) throw scopeEnded(scope)
    if (this.#closed) throw storeUnavailable(new Error("closed"))
    const session = this.#takeIdle() ?? (await this.#wait(scope))
    try {
      await session.assume(role)
    } catch (error) {
      this.release(session)
      throw toDomainError(error, { commits: false, sent: true })
    }
    return session
  }

  /** Takes a connection back. It must have nothing running and no transaction open, or it is dropped. */
  release(session: Session): void {
    this.#inUse--
    // What ended one connection has most likely ended them all; the next callers should not have to find out.
    if (session.lost) for (const idle of this.#idle.splice(0)) this.#drop(idle)
    if (!session.usable || session.inTransaction || this.#expired(session)) {
      if (session.usable) this.#drop(session)
      else session.destroy()
    } else {
      session.idleSince = Date.now()
      this.#idle.push(session)
    }
    this.#serve()
    this.#checkDrained()
  }

  /** Refuses new borrowers, waits for the ones there are, closes everything. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#reaper)
    for (const waiter of this.#waiters) waiter.reject(storeUnavailable(new Error("closed")))
    this.#waiters.clear()
    if (this.#inUse + this.#connecting > 0)
      await new Promise<void>((resolve) => {
        this.#onDrained = resolve
      })
    await Promise.all(this.#idle.splice(0).map((session) => session.close()))
  }

  #takeIdle(): Session | undefined {
    if (this.#waiters.size > 0) return undefined
    return this.#nextIdle()
  }

  #nextIdle(): Session | undefined {
    for (let session = this.#idle.pop(); session !== undefined; session = this.#idle.pop()) {
      if (session.usable) {
        this.#inUse++
        return session
      }
      session.destroy()
    }
    return undefined
  }

  #wait(scope: CallScope): Promise<Session> {
    if (this.#waiters.size >= this.#options.maxWaiting) {
      throw overloaded("too many calls wait for the SQL store; nothing was applied")
    }
    return new Promise<Session>((resolve, reject) => {
      const leave = () => {
        this.#waiters.delete(waiter)
        scope.signal.removeEventListener("abort", abort)
        clearTimeout(timer)
      }
      const waiter: Waiter = {
        resolve: (session) => {
          leave()
          resolve(session)
        },
        reject: (error) => {
          leave()
          reject(error)
        },
      }
      const abort = () => waiter.reject(scopeEnded(scope))
      const timer = Number.isFinite(this.#options.acquireMs)
        ? setTimeout(
            () =>
              waiter.reject(overloaded("no connection to the SQL store became free; nothing was applied")),
            this.#options.acquireMs,
          )
        : undefined
      scope.signal.addEventListener("abort", abort, { once: true })
      this.#waiters.add(waiter)
      this.#serve()
    })
  }

  /** Hands idle connections to waiters and makes as many new ones as are still wanted. */
  #serve(): void {
    for (const waiter of this.#waiters) {
      const session = this.#nextIdle()
      if (session === undefined) break
      waiter.resolve(session)
    }
    while (
      !this.#closed &&
      this.#connecting < this.#waiters.size &&
      this.#inUse + this.#connecting + this.#idle.length < this.#options.max
    ) {
      void this.#connect()
    }
  }

  async #connect(): Promise<void> {
    this.#connecting++
    try {
      const session = await this.#options.connect()
      this.#idle.push(session)
      this.#connecting--
      this.#serve()
    } catch (error) {
      this.#connecting--
      // A server without room for another connection goes on with those there are: a waiter gets the next that is free.
      if (isServerFull(error) && this.#inUse + this.#connecting > 0) return
      // Every waiter would meet the same fate; an answer now is worth more than one later.
      // What is neither the server's word nor ours is a store that cannot be opened.
      const failure =
        serverError(error) === undefined && !(error instanceof DomainError)
          ? storeUnavailable(error)
          : toDomainError(error, { commits: false, sent: false })
      for (const waiter of this.#waiters) waiter.reject(failure)
    }
    this.#checkDrained()
  }

  #expired(session: Session): boolean {
    return Date.now() - session.createdAt >= this.#options.lifetimeMs
  }

  #reap(): void {
    const now = Date.now()
    const total = this.#inUse + this.#idle.length
    let spare = total - this.#options.min
    for (const session of [...this.#idle]) {
      const idle = spare > 0 && now - session.idleSince >= this.#options.idleMs
      if (!idle && !this.#expired(session) && session.usable) continue
      this.#idle.splice(this.#idle.indexOf(session), 1)
      this.#drop(session)
      spare--
    }
  }

  #drop(session: Session): void {
    // A good-bye that fails leaves a connection that is gone anyway.
    session.close().catch(() => session.destroy())
  }

  #checkDrained(): void {
    if (this.#closed && this.#inUse + this.#connecting === 0) this.#onDrained?.()
  }
}
