/** One subscription's buffer: bounded, and honest about what did not fit. */
import type { TopicFrame, TopicMessage } from "../../domain/cache/ports.ts"
import { valueBytes } from "../../domain/cache/size.ts"

/** Bounds of a subscription's buffer. */
export interface SubscriberLimits {
  readonly maxMessages: number
  readonly maxBytes: number
}

/** Takes messages from publishers and gives frames to one consumer. */
export class Subscriber {
  readonly #limits: SubscriberLimits
  #buffer: TopicFrame[] = []
  #bytes = 0
  #dropped = 0
  #ended = false
  #wake: (() => void) | undefined

  constructor(limits: SubscriberLimits) {
    this.#limits = limits
  }

  /** Buffers a message, or counts it as lost. Once one is lost all are, until the consumer has taken the buffer. */
  offer(message: TopicMessage): void {
    const bytes = valueBytes(message.payload) + message.topic.length
    const { maxMessages, maxBytes } = this.#limits
    if (this.#dropped > 0 || this.#buffer.length >= maxMessages || this.#bytes + bytes > maxBytes) {
      this.#dropped++
    } else {
      this.#buffer.push({ kind: "message", message })
      this.#bytes += bytes
    }
    this.#wake?.()
  }

  /** Says in its place that an unknown number of messages went by. */
  gap(): void {
    if (this.#buffer.at(-1)?.kind !== "discontinuity")
      this.#buffer.push({ kind: "discontinuity", dropped: 0 })
    this.#wake?.()
  }

  /** Ends the frames after what is buffered. */
  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  /** The frames: a heartbeat at once and after every silence of the given length. */
  async *frames(heartbeatIntervalMs: number, now: () => number): AsyncGenerator<TopicFrame> {
    yield { kind: "heartbeat", timeMs: now() }
    while (true) {
      const frames = this.#buffer
      const dropped = this.#dropped
      this.#buffer = []
      this.#bytes = 0
      this.#dropped = 0
      yield* frames
      if (dropped > 0) yield { kind: "discontinuity", dropped }
      if (this.#buffer.length > 0 || this.#dropped > 0) continue
      if (this.#ended) return
      const woken = await this.#wait(heartbeatIntervalMs)
      if (!woken) yield { kind: "heartbeat", timeMs: now() }
    }
  }

  /** True when there is something to do, false after silence. */
  #wait(milliseconds: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(() => finish(false), milliseconds)
      timer.unref()
      const finish = (woken: boolean) => {
        clearTimeout(timer)
        this.#wake = undefined
        resolve(woken)
      }
      this.#wake = () => finish(true)
    })
  }
}
