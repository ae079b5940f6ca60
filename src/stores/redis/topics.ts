/** Who subscribes to what in this daemon. */
import type { TopicMessage } from "../../domain/cache/ports.ts"
import type { TenantId } from "../../domain/kernel/scope.ts"
import type { Subscriber } from "../inprocess/subscriber.ts"

type Matcher = (topic: string) => boolean

interface TenantTopics {
  readonly byTopic: Map<string, Set<Subscriber>>
  readonly byPattern: Map<Subscriber, readonly Matcher[]>
  /** The last number by topic while there are patterns: a message may come both by its channel and by the tenant's. */
  readonly last: Map<string, bigint>
  readonly all: Set<Subscriber>
}

const MAX_LAST = 10_000

/** See the file's comment. */
export class Topics {
  readonly #tenants = new Map<TenantId, TenantTopics>()

  /** How many subscriptions a tenant has. */
  subscriptions(tenant: TenantId): number {
    return this.#tenants.get(tenant)?.all.size ?? 0
  }

  /** Adds a subscriber; the answer takes it away again. */
  join(
    tenant: TenantId,
    subscriber: Subscriber,
    topics: readonly string[],
    matchers: readonly Matcher[],
  ): () => void {
    let state = this.#tenants.get(tenant)
    if (state === undefined) {
      state = { byTopic: new Map(), byPattern: new Map(), last: new Map(), all: new Set() }
      this.#tenants.set(tenant, state)
    }
    const joined = state
    for (const topic of topics) {
      const there = joined.byTopic.get(topic)
      if (there === undefined) joined.byTopic.set(topic, new Set([subscriber]))
      else there.add(subscriber)
    }
    if (matchers.length > 0) joined.byPattern.set(subscriber, matchers)
    joined.all.add(subscriber)
    return () => {
      for (const topic of topics) {
        const there = joined.byTopic.get(topic)
        there?.delete(subscriber)
        if (there?.size === 0) joined.byTopic.delete(topic)
      }
      joined.byPattern.delete(subscriber)
      joined.all.delete(subscriber)
      if (joined.all.size === 0 && this.#tenants.get(tenant) === joined) this.#tenants.delete(tenant)
    }
  }

  /** Who gets a message on the topic. */
  receivers(tenant: TenantId, topic: string): ReadonlySet<Subscriber> {
    const state = this.#tenants.get(tenant)
    const found = new Set(state?.byTopic.get(topic))
    for (const [subscriber, matchers] of state?.byPattern ?? []) {
      if (matchers.some((matches) => matches(topic))) found.add(subscriber)
    }
    return found
  }

  /** Hands a message on; answers to how many, or undefined for one that came before. */
  deliver(tenant: TenantId, message: TopicMessage): number | undefined {
    const state = this.#tenants.get(tenant)
    if (state !== undefined && state.byPattern.size > 0) {
      if (state.last.get(message.topic) === message.sequence) return undefined
      if (state.last.size >= MAX_LAST) state.last.clear()
      state.last.set(message.topic, message.sequence)
    }
    const receivers = this.receivers(tenant, message.topic)
    for (const subscriber of receivers) subscriber.offer(message)
    return receivers.size
  }

  /** Tells everybody that messages may have gone by. */
  gap(): void {
    for (const { all } of this.#tenants.values()) for (const subscriber of all) subscriber.gap()
  }

  /** Ends all subscriptions. */
  endAll(): void {
    for (const { all } of this.#tenants.values()) for (const subscriber of [...all]) subscriber.end()
  }
}
