/** Topics in the daemon's own memory. */
import { globMatcher } from "../../domain/cache/glob.ts"
import type { CacheValue } from "../../domain/cache/model.ts"
import type { PubSub, Subscription, TopicFrame, TopicMessage } from "../../domain/cache/ports.ts"
import type { Clock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import { Gate } from "./gate.ts"
import { IdempotencyRecords } from "./idempotency.ts"
import { Subscriber, type SubscriberLimits } from "./subscriber.ts"
import { own } from "./value-operations.ts"

/** Bounds of the engine. */
export interface PubSubLimits extends SubscriberLimits {
  readonly maxSubscriptionsPerTenant: number
  /** Topics without subscribers whose numbering is remembered; a forgotten one goes on from the time in microseconds. */
  readonly maxIdleTopicsPerTenant: number
}

/** What holds unless bootstrap says otherwise. */
export const PUBSUB_LIMITS: PubSubLimits = {
  maxMessages: 1_024,
  maxBytes: 8 * 1_048_576,
  maxSubscriptionsPerTenant: 1_000,
  maxIdleTopicsPerTenant: 10_000,
}

const MICROSECONDS = 1_000

interface Topic {
  sequence: number
  readonly subscribers: Set<Subscriber>
}

interface TenantTopics {
  readonly topics: Map<string, Topic>
  readonly patterns: Map<Subscriber, readonly ((topic: string) => boolean)[]>
  subscriptions: number
}

/** See the file's comment. */
export class InProcessPubSub implements PubSub {
  readonly #clock: Clock
  readonly #limits: PubSubLimits
  readonly #gate: Gate
  readonly #records: IdempotencyRecords
  readonly #tenants = new Map<TenantId, TenantTopics>()
  readonly #live = new Set<Subscriber>()

  constructor(clock: Clock, limits: PubSubLimits = PUBSUB_LIMITS) {
    this.#clock = clock
    this.#limits = limits
    this.#gate = new Gate(clock)
    this.#records = new IdempotencyRecords(clock)
  }

  publish(
    scope: CallScope,
    topic: string,
    payload: CacheValue,
  ): { readonly sequence: bigint; readonly subscribers: number } {
    const nowMs = this.#gate.enter(scope)
    return this.#records.once(scope, "publish", () => {
      const tenant = this.#tenant(scope.tenant)
      const state = this.#topic(tenant, topic, nowMs)
      state.sequence++
      const message: TopicMessage = {
        topic,
        sequence: BigInt(state.sequence),
        payload: own(payload),
        publishTimeMs: nowMs,
      }
      const receivers = new Set(state.subscribers)
      for (const [subscriber, patterns] of tenant.patterns) {
        if (patterns.some((matches) => matches(topic))) receivers.add(subscriber)
      }
      for (const subscriber of receivers) subscriber.offer(message)
      this.#forgetIdle(tenant)
      return { sequence: message.sequence, subscribers: receivers.size }
    })
  }

  subscribe(scope: CallScope, subscription: Subscription): AsyncIterable<TopicFrame> {
    const nowMs = this.#gate.enter(scope)
    const matchers = subscription.patterns.map((pattern, index) => globMatcher(pattern, `patterns[${index}]`))
    const tenant = this.#tenant(scope.tenant)
    const { maxSubscriptionsPerTenant } = this.#limits
    if (tenant.subscriptions >= maxSubscriptionsPerTenant) {
      throw new DomainError(
        "OVERLOADED",
        "the tenant has as many subscriptions as it may have; end one first",
        {
          metadata: { limit: "subscriptions", value: String(maxSubscriptionsPerTenant) },
        },
      )
    }
    const subscriber = new Subscriber(this.#limits)
    const topics = subscription.topics.map((topic) => this.#topic(tenant, topic, nowMs))
    for (const topic of topics) topic.subscribers.add(subscriber)
    if (matchers.length > 0) tenant.patterns.set(subscriber, matchers)
    tenant.subscriptions++
    this.#live.add(subscriber)
    const { signal } = scope
    const onAbort = () => subscriber.end()
    signal.addEventListener("abort", onAbort, { once: true })
    if (signal.aborted) subscriber.end()
    let left = false
    const leave = () => {
      if (left) return
      left = true
      signal.removeEventListener("abort", onAbort)
      for (const topic of topics) topic.subscribers.delete(subscriber)
      tenant.patterns.delete(subscriber)
      tenant.subscriptions--
      this.#live.delete(subscriber)
    }
    // A consumer may end before it has asked for the first frame, when a generator's own `finally` would not run.
    signal.addEventListener("abort", leave, { once: true })
    return leaving(
      subscriber.frames(subscription.heartbeatIntervalMs, () => this.#clock.now()),
      leave,
    )
  }

  async close(): Promise<void> {
    this.#gate.close()
    for (const subscriber of this.#live) subscriber.end()
    this.#records.clear()
  }

  #tenant(id: TenantId): TenantTopics {
    let tenant = this.#tenants.get(id)
    if (tenant === undefined) {
      tenant = { topics: new Map(), patterns: new Map(), subscriptions: 0 }
      this.#tenants.set(id, tenant)
    }
    return tenant
  }

  #topic(tenant: TenantTopics, name: string, nowMs: number): Topic {
    let topic = tenant.topics.get(name)
    if (topic === undefined) {
      topic = { sequence: Math.floor(nowMs) * MICROSECONDS, subscribers: new Set() }
      tenant.topics.set(name, topic)
    }
    return topic
  }

  /** Forgets the numbering of the topics that were made first, unless somebody listens. */
  #forgetIdle(tenant: TenantTopics): void {
    let excess = tenant.topics.size - this.#limits.maxIdleTopicsPerTenant - tenant.subscriptions
    if (excess <= 0) return
    for (const [name, topic] of tenant.topics) {
      if (excess <= 0) return
      if (topic.subscribers.size > 0) continue
      tenant.topics.delete(name)
      excess--
    }
  }
}

/** The frames, and `leave` once they end or the consumer turns away, even before the first. */
function leaving(frames: AsyncGenerator<TopicFrame>, leave: () => void): AsyncIterableIterator<TopicFrame> {
  const settle = async (step: Promise<IteratorResult<TopicFrame>>) => {
    const result = await step
    if (result.done === true) leave()
    return result
  }
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    next: () => settle(frames.next()),
    return: () => {
      leave()
      return frames.return(undefined)
    },
  }
}
