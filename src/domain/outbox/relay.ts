/** Brings entries of the outbox to their handlers: at least once, in the order of their keys, several daemons side by side. */
import { DomainError } from "../kernel/errors.ts"
import type { Logger } from "../kernel/logger.ts"
import { pause } from "../kernel/pause.ts"
import { type CallScope, PLATFORM_TENANT, scopeWith, systemScope } from "../kernel/scope.ts"
import type { TraceContext } from "../kernel/trace.ts"
import type { Listener, WaitEnd } from "../kernel/wake-ups.ts"
import { type DeliveryPolicy, deliver, type OutboxHandler } from "./deliver.ts"
import type { OutboxBatch, OutboxStore } from "./ports.ts"
import type { OutboxSignals } from "./signals.ts"

/** A topic that this daemon serves. */
export interface RelayTopic {
  readonly topic: string
  readonly handle: OutboxHandler
  /** Most entries that the handler gets at once. Default: 200. */
  readonly batch?: number | undefined
  /** Most bytes of payloads that it gets at once. Default: 4 MiB. */
  readonly batchBytes?: number | undefined
  /** Batches of this topic under way at once in this daemon. Default: 1. */
  readonly concurrency?: number | undefined
  /** How long the handler may take, in milliseconds; the lease is half as long again. Default: 20 s. */
  readonly timeoutMs?: number | undefined
  /** Failures of its own after which an entry is parked. Default: 10. */
  readonly maxStrikes?: number | undefined
  /** Between two looks for what was added without a wake-up, in milliseconds, at random. Default: the relay's. */
  readonly pollMs?: readonly [shortest: number, longest: number] | undefined
  /** Shortest and longest pause before an entry is tried again, in milliseconds. Default: 200 ms and 15 s. */
  readonly backoffMs?: readonly [shortest: number, longest: number] | undefined
}

/** Shows deliveries in the traces of the calls that they are owed to. */
export interface DeliveryTracer {
  /** Begins the span of a delivery of entries with these origins; undefined where none is traced. */
  startDelivery(
    topic: string,
    traceparents: readonly string[],
  ): { readonly trace: TraceContext; end(reason: string | undefined): void } | undefined
}

/** How {@link Relay} works. */
export interface RelayOptions {
  readonly store: OutboxStore
  readonly signals: OutboxSignals
  readonly topics: readonly RelayTopic[]
  readonly logger: Logger
  /** Tracing is off by default. */
  readonly tracer?: DeliveryTracer | undefined
  /** Between two looks for what other daemons have added, in milliseconds, at random. Default: 250 to 1000. */
  readonly pollMs?: readonly [shortest: number, longest: number] | undefined
}

/** What one relay did with a topic since its start. */
export interface RelayCounts {
  done: number
  retried: number
  parked: number
  /** Entries whose lease was over before they were settled: somebody else does or did them, too. */
  lost: number
}

/** How long a relay that is being stopped waits for its store, in milliseconds. */
const LAST_SETTLING_MS = 3_000
/** Of the handler's time, how much the claim may take before it. */
const CLAIM_SHARE = 0.5
const DEFAULT_BATCH = 200
const DEFAULT_POLL_MS = [250, 1_000] as const
const DEFAULT_BACKOFF_MS = [200, 15_000] as const

/** Workers over one {@link OutboxStore}; {@link Relay.stop} ends them. */
export class Relay {
  readonly #options: RelayOptions
  readonly #abort = new AbortController()
  readonly #workers: Promise<void>[] = []
  readonly #counts = new Map<string, RelayCounts>()
  /** By topic, how many entries its handler manages in its time, where that is less than it may get. */
  readonly #manageable = new Map<string, number>()

  constructor(options: RelayOptions) {
    this.#options = options
    for (const { topic } of options.topics) {
      if (this.#counts.has(topic)) throw new Error(`the topic ${topic} has two handlers`)
      this.#counts.set(topic, { done: 0, retried: 0, parked: 0, lost: 0 })
    }
  }

  /** Begins to work; once. */
  start(): void {
    for (const topic of this.#options.topics) {
      for (let i = 0; i < (topic.concurrency ?? 1); i++) this.#workers.push(this.#work(topic))
    }
  }

  /** Aborts the handlers under way, waits for them, and starts no more. What they had not finished is delivered again. */
  async stop(): Promise<void> {
    this.#abort.abort()
    await Promise.all(this.#workers)
  }

  /** By topic. */
  get counts(): ReadonlyMap<string, Readonly<RelayCounts>> {
    return this.#counts
  }

  async #work(topic: RelayTopic): Promise<void> {
    const { signal } = this.#abort
    const listener = this.#options.signals.listen(topic.topic)
    let failures = 0
    try {
      while (!signal.aborted) {
        const end = await this.#round(topic)
        failures = end === "away" ? failures + 1 : 0
        if (end === "away") await pause(backoff(topic, failures), signal)
        else if (end === "empty" && (await this.#wait(topic, listener)) === "aborted") return
      }
    } finally {
      listener.close()
    }
  }

  #wait(topic: RelayTopic, listener: Listener): Promise<WaitEnd> {
    const [shortest, longest] = topic.pollMs ?? this.#options.pollMs ?? DEFAULT_POLL_MS
    return listener.wait(shortest + Math.random() * (longest - shortest), this.#abort.signal)
  }

  /** `away`: the outbox's own store or the target is not to be had. */
  async #round(topic: RelayTopic): Promise<"worked" | "empty" | "away"> {
    const timeoutMs = topic.timeoutMs ?? 20_000
    const most = topic.batch ?? DEFAULT_BATCH
    const max = Math.min(most, this.#manageable.get(topic.topic) ?? most)
    try {
      // The lease begins with the claim: what the claim takes must not come off the handler's time.
      const batch = await this.#within(timeoutMs * CLAIM_SHARE, (scope) =>
        this.#options.store.claim(scope, {
          topic: topic.topic,
          max,
          maxBytes: topic.batchBytes ?? 4_194_304,
          leaseMs: timeoutMs * (1 + CLAIM_SHARE),
        }),
      )
      if (batch.entries.length === 0) return "empty"
      // There may be work for another worker, too.
      if (batch.entries.length === max) this.#options.signals.committed(topic.topic)
      return (await this.#deliver(topic, batch, timeoutMs)) ? "away" : "worked"
    } catch (error) {
      if (!this.#abort.signal.aborted)
        this.#options.logger.warn({ topic: topic.topic, err: error }, "the outbox could not be worked on")
      return "away"
    }
  }

  /** Whether the target was away. */
  async #deliver(topic: RelayTopic, batch: OutboxBatch, timeoutMs: number): Promise<boolean> {
    const policy: DeliveryPolicy = {
      maxStrikes: topic.maxStrikes ?? 10,
      delayMs: (failures) => backoff(topic, failures),
    }
    const origins = batch.entries.map(({ traceparent }) => traceparent)
    const span = this.#options.tracer?.startDelivery(topic.topic, origins)
    const { settlement, away, late } = await this.#within(timeoutMs, async (own) => {
      const scope = span === undefined ? own : scopeWith(own, { trace: span.trace })
      const delivered = await deliver(scope, batch, topic.handle, policy)
      return { ...delivered, late: scope.signal.aborted && !this.#abort.signal.aborted }
    })
    span?.end((settlement.park[0] ?? settlement.retry[0])?.fault.reason)
    this.#measure(topic, batch, late)
    // Settled even while the relay is being stopped: what is done need not be done again.
    const ms = this.#abort.signal.aborted ? LAST_SETTLING_MS : timeoutMs
    const scope = { ...systemScope(), deadlineMs: Date.now() + ms }
    const settled = await this.#options.store.settle(scope, batch, settlement)
    this.#count(topic.topic, batch, settlement, settled)
    return away
  }

  /** A batch that takes too long would take too long for ever: the next is half of it, and then they grow one by one. */
  #measure(
    { topic, batch: most = DEFAULT_BATCH }: RelayTopic,
    { entries }: OutboxBatch,
    late: boolean,
  ): void {
    if (late) this.#manageable.set(topic, Math.max(1, Math.floor(entries.length / 2)))
    else {
      const size = this.#manageable.get(topic) ?? most
      if (entries.length >= size && size < most) this.#manageable.set(topic, size + 1)
    }
  }

  #count(
    topic: string,
    { entries }: OutboxBatch,
    { done, retry, park }: Awaited<ReturnType<typeof deliver>>["settlement"],
    settled: number,
  ): void {
    const counts = this.#counts.get(topic)
    if (counts === undefined) return
    counts.done += done.length
    counts.retried += retry.length
    counts.parked += park.length
    counts.lost += entries.length - settled
    const { logger } = this.#options
    for (const { id, fault } of park)
      logger.error({ topic, entry: id, reason: fault.reason }, "an entry of the outbox was parked")
    const [first] = retry
    if (first !== undefined)
      logger.warn(
        { topic, count: retry.length, reason: first.fault.reason },
        "entries of the outbox will be tried again",
      )
    if (settled < entries.length)
      logger.warn({ topic, count: entries.length - settled }, "leases of the outbox ended too early")
  }

  /** Runs `work` in a scope that ends after `ms` and with the relay. */
  async #within<T>(ms: number, work: (scope: CallScope) => Promise<T>): Promise<T> {
    const { signal } = this.#abort
    const controller = new AbortController()
    const stop = (): void => controller.abort(new DomainError("CANCELLED", "the daemon is stopping"))
    const late = (): void => controller.abort(new DomainError("DEADLINE_EXCEEDED", "the time was up"))
    if (signal.aborted) stop()
    const timer = setTimeout(late, ms)
    signal.addEventListener("abort", stop, { once: true })
    try {
      return await work({
        ...systemScope(PLATFORM_TENANT, controller.signal),
        deadlineMs: Date.now() + ms,
      })
    } finally {
      clearTimeout(timer)
      signal.removeEventListener("abort", stop)
    }
  }
}

/** Exponential, capped, over the upper half at random. */
function backoff({ backoffMs }: RelayTopic, failures: number): number {
  const [shortest, longest] = backoffMs ?? DEFAULT_BACKOFF_MS
  const grown = Math.min(longest, shortest * 2 ** Math.min(failures - 1, 30))
  return Math.round(grown * (1 - Math.random() / 2))
}
