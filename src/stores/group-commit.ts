/**
 * Group commit: callers that arrive while a write is under way share the next one. Gives one statement and one transaction
 * for many small writes, and answers a caller only when its group is durable.
 */
import { DomainError } from "../domain/kernel/errors.ts"
import { type CallScope, systemScope } from "../domain/kernel/scope.ts"

/** The outcome of one item of a group. */
export type Outcome<R> =
  | { readonly ok: true; readonly value: R }
  | { readonly ok: false; readonly error: unknown }

/** How groups are formed. */
export interface GroupCommitOptions<I, R> {
  /** Items with one key may share a group; different keys never do. Usually the tenant. */
  key(scope: CallScope, item: I): string
  /** Most items in one group. */
  readonly maxItems: number
  /** Most bytes in one group, by {@link GroupCommitOptions.bytes}. */
  readonly maxBytes: number
  /** An item's size in bytes, roughly. */
  bytes(item: I): number
  /** Groups that may be under way at once, over all keys. One for an engine with one connection. */
  readonly concurrency: number
  /** Groups of one key that may be under way at once, no two of them with items of one {@link GroupCommitOptions.lane}. Default 1. */
  readonly perKey?: number
  /** What only one group at a time may be about, such as a stream. Needed with {@link GroupCommitOptions.perKey} over 1. */
  lane?(item: I): string
  /** Most items that wait, over all keys; more are shed with OVERLOADED. Default 16384. */
  readonly maxQueued?: number
  /**
   * Writes a group in one transaction and answers one outcome per item, in order. Rejecting fails every item with the same
   * error, so an item's own fault (a lost race, bad input) belongs into its outcome.
   * @param scope the scope of the group's first item, without its deadline and idempotency.
   */
  run(scope: CallScope, items: readonly I[]): Promise<readonly Outcome<R>[]>
}

/** A {@link GroupCommit} over `options`. */
export function createGroupCommit<I, R>(options: GroupCommitOptions<I, R>): GroupCommit<I, R> {
  return new GroupCommit(options)
}

const DEFAULT_MAX_QUEUED = 16_384
const RETRY_MS = 100

interface Entry<I, R> {
  readonly scope: CallScope
  readonly item: I
  readonly bytes: number
  /** Whether it waited when the waiting items were looked through last. */
  waited: boolean
  /** Takes the caller's abort away from a waiting item; set only for items that wait for long. */
  unwatch?: () => void
  resolve(value: R): void
  reject(error: unknown): void
}

interface Queue<I, R> {
  readonly key: string
  entries: Entry<I, R>[]
  /** Groups of this key under way, how many items they have, and their lanes. */
  groups: number
  items: number
  readonly lanes: Set<string>
}

/** So few callers of one key share one group: another would cost more than it saves. */
const LEAST_SHARE = 32
/** How far a group looks for items behind those whose lane is taken. */
const LOOK_AHEAD = 4
/** Items that waited this long are dropped when their callers leave. To listen to every caller costs more than most of them wait. */
const WATCH_MS = 10

/** How many turns a group is gathered for at the most, so that a steady stream of callers cannot hold it back. */
const MAX_GATHER_TURNS = 8

/** See the head of this file. Keeps the order of items within a key. */
export class GroupCommit<I, R> {
  readonly #options: GroupCommitOptions<I, R>
  readonly #maxQueued: number
  readonly #perKey: number
  readonly #queues = new Map<string, Queue<I, R>>()
  /** Keys with waiting items that may start a group, longest waiting first. */
  readonly #ready = new Set<Queue<I, R>>()
  #queued = 0
  #running = 0
  #scheduled = false
  #closed = false
  #watching: NodeJS.Timeout | undefined
  #onDrained: (() => void)[] = []

  constructor(options: GroupCommitOptions<I, R>) {
    this.#options = options
    this.#maxQueued = options.maxQueued ?? DEFAULT_MAX_QUEUED
    this.#perKey = options.lane === undefined ? 1 : Math.min(options.perKey ?? 1, options.concurrency)
  }

  /**
   * Adds an item to the next group of its key and resolves with its outcome when the group is durable. Rejects with
   * DEADLINE_EXCEEDED or CANCELLED when the scope ends before the item is sent (afterwards its outcome is waited for),
   * OVERLOADED when too many wait, DRAINING after {@link close}.
   */
  add(scope: CallScope, item: I): Promise<R> {
    if (this.#closed)
      return Promise.reject(new DomainError("DRAINING", "the daemon is about to stop; nothing was applied"))
    if (scope.deadlineMs <= Date.now()) return Promise.reject(ended(scope))
    if (this.#queued >= this.#maxQueued) {
      const message = "too many writes wait for the store; nothing was applied"
      return Promise.reject(new DomainError("OVERLOADED", message, { retryDelayMs: RETRY_MS }))
    }
    return new Promise<R>((resolve, reject) => {
      const entry: Entry<I, R> = {
        scope,
        item,
        bytes: this.#options.bytes(item),
        waited: false,
        resolve,
        reject,
      }
      this.#enqueue(this.#options.key(scope, item), entry)
    })
  }

  /** Refuses new items and resolves when those it has are answered. */
  close(): Promise<void> {
    this.#closed = true
    if (this.#queued + this.#running === 0) return Promise.resolve()
    return new Promise((resolve) => this.#onDrained.push(resolve))
  }

  #enqueue(key: string, entry: Entry<I, R>): void {
    let queue = this.#queues.get(key)
    if (queue === undefined) {
      queue = { key, entries: [], groups: 0, items: 0, lanes: new Set() }
      this.#queues.set(key, queue)
    }
    queue.entries.push(entry)
    this.#queued++
    const ready = this.#mayStart(queue) && !this.#isTaken(queue, entry)
    if (ready) this.#ready.add(queue)
    if (ready && this.#running < this.#options.concurrency) this.#schedule()
    else this.#watchWaiting()
  }

  /** Whether a group under way is about the same. */
  #isTaken(queue: Queue<I, R>, { item }: Entry<I, R>): boolean {
    return queue.lanes.size > 0 && queue.lanes.has(this.#options.lane?.(item) ?? "")
  }

  /**
   * After the turn of the event loop, and after further turns while they bring more items: callers whose last group was
   * answered together come back together, and would otherwise be split into a group of one and a group of the rest. A
   * caller who is alone waits one turn, some microseconds.
   */
  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    this.#gather(this.#queued, MAX_GATHER_TURNS)
  }

  #gather(seen: number, turns: number): void {
    setImmediate(() => {
      if (this.#queued > seen && turns > 1) return this.#gather(this.#queued, turns - 1)
      this.#scheduled = false
      this.#start()
    })
  }

  #start(): void {
    for (const queue of this.#ready) {
      if (this.#running >= this.#options.concurrency) break
      this.#ready.delete(queue)
      const group = this.#mayStart(queue) ? this.#take(queue) : []
      if (group.length > 0) void this.#run(queue, group)
      else this.#retire(queue)
      // Behind the others, who come first.
      if (group.length > 0 && this.#mayStart(queue)) this.#ready.add(queue)
    }
    if (this.#queued > 0) this.#watchWaiting()
    this.#checkDrained()
  }

  /** Looks through the waiting items now and then as long as there are any, and watches those that it has seen before. */
  #watchWaiting(): void {
    this.#watching ??= setTimeout(() => {
      this.#watching = undefined
      for (const queue of this.#queues.values()) {
        for (const entry of queue.entries) {
          if (entry.waited) this.#watch(queue, entry)
          entry.waited = true
        }
      }
      if (this.#queued > 0) this.#watchWaiting()
    }, WATCH_MS / 2).unref()
  }

  /** The next group, without the items whose callers are gone. What stays keeps its order. */
  #take(queue: Queue<I, R>): Entry<I, R>[] {
    const { maxBytes } = this.#options
    const most = this.#share(queue)
    const group: Entry<I, R>[] = []
    const kept: Entry<I, R>[] = []
    const now = Date.now()
    let bytes = 0
    let looked = 0
    for (const entry of queue.entries) {
      const gone = entry.scope.deadlineMs <= now
      const taken = !gone && this.#isTaken(queue, entry)
      const full = group.length >= most || (group.length > 0 && bytes + entry.bytes > maxBytes)
      if ((!gone && !taken && full) || looked >= LOOK_AHEAD * this.#options.maxItems) break
      looked++
      if (taken) {
        kept.push(entry)
        continue
      }
      entry.unwatch?.()
      if (gone) entry.reject(ended(entry.scope))
      else {
        group.push(entry)
        bytes += entry.bytes
      }
    }
    const before = queue.entries.length
    queue.entries = [...kept, ...queue.entries.slice(looked)]
    this.#queued -= before - queue.entries.length
    return group
  }

  /** Whether there is enough for a group: beside others as much as they have, for each group costs the engine by itself. */
  #mayStart(queue: Queue<I, R>): boolean {
    if (queue.groups === 0) return queue.entries.length > 0
    return queue.groups < this.#perKey && queue.entries.length >= this.#share(queue)
  }

  /** How many items the next group may have, so that groups which are under way together are alike. */
  #share(queue: Queue<I, R>): number {
    const { maxItems } = this.#options
    if (this.#perKey === 1) return maxItems
    const all = queue.entries.length + queue.items
    const groups = Math.max(1, Math.min(this.#perKey, Math.floor(all / LEAST_SHARE)))
    return Math.min(maxItems, Math.ceil(all / groups))
  }

  async #run(queue: Queue<I, R>, group: readonly Entry<I, R>[]): Promise<void> {
    this.#hold(queue, group)
    try {
      const outcomes = await this.#options.run(
        groupScope(group),
        group.map(({ item }) => item),
      )
      group.forEach((entry, index) => {
        settle(entry, outcomes[index])
      })
    } catch (error) {
      for (const entry of group) entry.reject(error)
    }
    this.#release(queue, group)
    if (this.#mayStart(queue)) this.#ready.add(queue)
    else this.#retire(queue)
    if (this.#ready.size > 0) this.#schedule()
    else this.#checkDrained()
  }

  #hold(queue: Queue<I, R>, group: readonly Entry<I, R>[]): void {
    this.#running++
    queue.groups++
    queue.items += group.length
    if (this.#perKey > 1) for (const { item } of group) queue.lanes.add(this.#options.lane?.(item) ?? "")
  }

  #release(queue: Queue<I, R>, group: readonly Entry<I, R>[]): void {
    this.#running--
    queue.groups--
    queue.items -= group.length
    if (this.#perKey > 1) for (const { item } of group) queue.lanes.delete(this.#options.lane?.(item) ?? "")
  }

  #retire(queue: Queue<I, R>): void {
    if (queue.entries.length === 0 && queue.groups === 0) this.#queues.delete(queue.key)
  }

  /** Drops a waiting item when its caller leaves. */
  #watch(queue: Queue<I, R>, entry: Entry<I, R>): void {
    if (entry.unwatch !== undefined) return
    const { signal } = entry.scope
    const drop = () => {
      entry.unwatch?.()
      queue.entries = queue.entries.filter((other) => other !== entry)
      this.#queued--
      entry.reject(ended(entry.scope))
      if (queue.entries.length === 0) {
        this.#ready.delete(queue)
        this.#retire(queue)
      }
      this.#checkDrained()
    }
    entry.unwatch = () => signal.removeEventListener("abort", drop)
    if (signal.aborted) drop()
    else signal.addEventListener("abort", drop, { once: true })
  }

  #checkDrained(): void {
    if (!this.#closed || this.#queued + this.#running > 0) return
    for (const resolve of this.#onDrained.splice(0)) resolve()
  }
}

function groupScope<I, R>(group: readonly Entry<I, R>[]): CallScope {
  const first = group[0]?.scope
  if (first === undefined) throw new Error("a group is never empty")
  return { ...systemScope(first.tenant), actor: first.actor, trace: first.trace }
}

function settle<I, R>(entry: Entry<I, R>, outcome: Outcome<R> | undefined): void {
  if (outcome === undefined) {
    const cause = new Error("a group's run must answer one outcome per item")
    entry.reject(new DomainError("INTERNAL", "internal error", { cause }))
  } else if (outcome.ok) entry.resolve(outcome.value)
  else entry.reject(outcome.error)
}

function ended(scope: CallScope): DomainError {
  if (scope.deadlineMs <= Date.now()) {
    return new DomainError(
      "DEADLINE_EXCEEDED",
      "the deadline passed before the write was sent; nothing was applied",
    )
  }
  const reason: unknown = scope.signal.reason
  return reason instanceof DomainError
    ? reason
    : new DomainError("CANCELLED", "the call was cancelled before the write was sent; nothing was applied", {
        cause: reason,
      })
}
