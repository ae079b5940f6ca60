/**
 * Topics on a server. A daemon listens to a topic's channel while anybody here subscribes to the topic, and to all channels of the
 * tenant while anybody has a pattern; patterns are matched here, as the server's own know bytes and not characters.
 */
import { globMatcher } from "../../domain/cache/glob.ts"
import type { CacheValue } from "../../domain/cache/model.ts"
import type { PubSub, Subscription, TopicFrame } from "../../domain/cache/ports.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import { Subscriber, type SubscriberLimits } from "../inprocess/subscriber.ts"
import { asNumber, asText } from "./answers.ts"
import type { Connection, Script } from "./connection.ts"
import { requestIdReused } from "./decode-result.ts"
import { Echoes } from "./echoes.ts"
import { deadlineExceeded, storeClosed } from "./errors.ts"
import { hex, type Keys, RECORD_KEPT_MS, recordKey } from "./keys.ts"
import type { Listener } from "./listener.ts"
import { PUBLISH_SCRIPT } from "./lua/publish.ts"
import { Topics } from "./topics.ts"
import { decodeValue, encodeValue } from "./values.ts"

/** How long a topic's numbering is remembered after its last message; then it goes on from the time in microseconds. */
const COUNTER_KEPT_MS = 24 * 3_600_000
const SPACE = 0x20

/** Bounds of the engine. */
export interface RedisPubSubLimits extends SubscriberLimits {
  readonly maxSubscriptionsPerTenant: number
}

/** What holds unless bootstrap says otherwise. */
export const REDIS_PUBSUB_LIMITS: RedisPubSubLimits = {
  maxMessages: 1_024,
  maxBytes: 8 * 1_048_576,
  maxSubscriptionsPerTenant: 1_000,
}

/** What it is made of. */
export interface RedisPubSubOptions {
  readonly connection: Connection
  readonly makeListener: (pubsub: RedisPubSub) => Listener
  readonly keys: Keys
  readonly limits: RedisPubSubLimits
  readonly wrapScript: (text: string) => string
}

/** See the file's comment. */
export class RedisPubSub implements PubSub {
  readonly #connection: Connection
  readonly #listener: Listener
  readonly #keys: Keys
  readonly #limits: RedisPubSubLimits
  readonly #script: Script
  readonly #topics = new Topics()
  readonly #echoes = new Echoes()
  #closed = false

  constructor({ connection, makeListener, keys, limits, wrapScript }: RedisPubSubOptions) {
    this.#connection = connection
    this.#listener = makeListener(this)
    this.#keys = keys
    this.#limits = limits
    this.#script = connection.script(wrapScript(PUBLISH_SCRIPT))
  }

  /** Resolves once messages come in, or after so many milliseconds. */
  async settled(ms: number): Promise<void> {
    await this.#listener.settled(ms)
  }

  /** Whether messages come in now. */
  get isListening(): boolean {
    return this.#listener.isReady
  }

  async publish(
    scope: CallScope,
    topic: string,
    payload: CacheValue,
  ): Promise<{ readonly sequence: bigint; readonly subscribers: number }> {
    if (this.#closed) throw storeClosed()
    const channel = this.#keys.channel(scope.tenant, topic)
    const ways = await this.#listener.ways(channel, this.#keys.channel(scope.tenant, "*"))
    const { idempotency } = scope
    const base = this.#keys.topic(scope.tenant, topic)
    const record = idempotency === undefined ? undefined : recordKey(base, idempotency, "publish")
    const hash = idempotency === undefined ? "" : hex(idempotency.bodyHash)
    return await this.#echoes.during(async () => {
      const answer = await this.#connection.run(
        scope,
        "write",
        this.#script,
        [`${base}number`, ...(record === undefined ? [] : [record])],
        [this.#connection.scriptTime(), hash, RECORD_KEPT_MS, channel, COUNTER_KEPT_MS, encodeValue(payload)],
      )
      const word = asText(answer[0])
      if (word === "reused") throw requestIdReused(idempotency?.requestId ?? "")
      const sequence = asText(answer[1])
      const connections = asNumber(answer[2])
      if (word === "known" || ways === 0) return { sequence: BigInt(sequence), subscribers: connections }
      // This connection counts once for each way in which it listens; its subscribers are known exactly.
      const here =
        (await this.#echoes.of(channel, sequence)) ?? this.#topics.receivers(scope.tenant, topic).size
      const subscribers = Math.max(0, connections - ways) + here
      if (record !== undefined) {
        const text = `${hash} ${sequence} ${subscribers}`
        await this.#connection.send(scope, "write", "SET", [record, text, "XX", "KEEPTTL"])
      }
      return { sequence: BigInt(sequence), subscribers }
    })
  }

  subscribe(scope: CallScope, subscription: Subscription): AsyncIterable<TopicFrame> {
    if (this.#closed) throw storeClosed()
    if (this.#connection.clock.now() >= scope.deadlineMs) {
      throw deadlineExceeded("the deadline passed before the cache was asked; nothing was done")
    }
    const matchers = subscription.patterns.map((pattern, index) => globMatcher(pattern, `patterns[${index}]`))
    const { maxSubscriptionsPerTenant } = this.#limits
    if (this.#topics.subscriptions(scope.tenant) >= maxSubscriptionsPerTenant) {
      throw new DomainError(
        "OVERLOADED",
        "the tenant has as many subscriptions as it may have; end one first",
        { metadata: { limit: "subscriptions", value: String(maxSubscriptionsPerTenant) } },
      )
    }
    const subscriber = new Subscriber(this.#limits)
    const leaveTopics = this.#topics.join(scope.tenant, subscriber, subscription.topics, matchers)
    const listening = this.#listen(scope.tenant, subscription)
    const { signal } = scope
    const leave = once(() => {
      signal.removeEventListener("abort", leave)
      subscriber.end()
      leaveTopics()
      listening.end()
    })
    signal.addEventListener("abort", leave, { once: true })
    if (signal.aborted) leave()
    const frames = subscriber.frames(subscription.heartbeatIntervalMs, () => this.#connection.clock.now())
    return following(frames, listening.begun, leave)
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#topics.endAll()
    this.#listener.close()
  }

  /** A message that came in. */
  message(channel: string, payload: Buffer): void {
    const found = this.#keys.parseChannel(channel)
    if (found === undefined) return
    const first = payload.indexOf(SPACE)
    const second = payload.indexOf(SPACE, first + 1)
    const sequence = payload.toString("latin1", 0, first)
    const here = this.#topics.deliver(found.tenant, {
      topic: found.topic,
      sequence: BigInt(sequence),
      payload: decodeValue(payload.subarray(second + 1)),
      publishTimeMs: Number(payload.toString("latin1", first + 1, second)),
    })
    if (here !== undefined) this.#echoes.heard(channel, sequence, here)
  }

  /** Messages may have gone by. */
  gap(): void {
    this.#topics.gap()
  }

  /** The listener's connection is gone: nobody needs to wait for what it would have heard. */
  lost(): void {
    this.#echoes.giveUp()
  }

  #listen(tenant: TenantId, { topics, patterns }: Subscription) {
    const wanted = topics.map((topic) => ["subscribe", this.#keys.channel(tenant, topic)] as const)
    const all = patterns.length === 0 ? [] : [["psubscribe", this.#keys.channel(tenant, "*")] as const]
    const begun = [...wanted, ...all].map(async ([way, name]) => {
      await this.#listener.add(way, name)
      return () => this.#listener.remove(way, name)
    })
    const end = async () => {
      for (const result of await Promise.allSettled(begun)) if (result.status === "fulfilled") result.value()
    }
    return { begun: Promise.all(begun), end: () => void end() }
  }
}

function once(work: () => void): () => void {
  let done = false
  return () => {
    if (done) return
    done = true
    work()
  }
}

/** The frames from when everything is subscribed; `leave` once they end or the consumer turns away, even before the first. */
function following(
  frames: AsyncGenerator<TopicFrame>,
  begun: Promise<unknown>,
  leave: () => void,
): AsyncIterableIterator<TopicFrame> {
  // Whoever never asks for a frame must not bring the process down.
  begun.catch(() => undefined)
  return {
    [Symbol.asyncIterator]() {
      return this
    },
    async next() {
      try {
        await begun
        const result = await frames.next()
        if (result.done === true) leave()
        return result
      } catch (error) {
        leave()
        throw error
      }
    },
    return: () => {
      leave()
      return frames.return(undefined)
    },
  }
}
