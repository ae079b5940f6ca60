/** The connection on which messages come in. Channels are counted, so that each is subscribed once however many want it. */
import type { Redis } from "ioredis"
import { replyWord, storeUnavailable, toDomainError } from "./errors.ts"

/** Who is told. */
export interface ListenerEvents {
  message(channel: string, payload: Buffer): void
  /** Messages may have gone by since the connection was lost; everything is subscribed again. */
  gap(): void
  lost(): void
}

type Way = "subscribe" | "psubscribe"

/** See the file's comment. */
export class Listener {
  readonly #client: Redis
  readonly #counts = new Map<string, number>()
  /** The last change that is on its way; changes go one after the other. */
  #changes: Promise<unknown> = Promise.resolve()
  #pending = 0
  readonly #pings: NodeJS.Timeout
  #wasLost = false

  /**
   * Begins to connect.
   * @param pingMs how often the server is asked whether it is still there: nobody else sends anything on this connection.
   * @param isAstray whether the server that the client is connected to no longer hears what is published.
   */
  constructor(client: Redis, events: ListenerEvents, pingMs: number, isAstray: () => boolean) {
    this.#client = client
    this.#pings = setInterval(() => {
      if (client.status === "ready" && isAstray()) client.disconnect(true)
      else void client.ping().catch(() => undefined)
    }, pingMs)
    this.#pings.unref()
    client.on("messageBuffer", (channel: Buffer, payload: Buffer) =>
      events.message(channel.toString("utf8"), payload),
    )
    client.on("pmessageBuffer", (_pattern: string, channel: Buffer, payload: Buffer) =>
      events.message(channel.toString("utf8"), payload),
    )
    client.on("close", () => {
      this.#wasLost = true
      events.lost()
    })
    client.on("ready", () => {
      if (!this.#wasLost) return
      this.#wasLost = false
      // The driver subscribes again right now, and the server answers in order.
      setImmediate(() => {
        client.ping().then(
          () => events.gap(),
          () => undefined,
        )
      })
    })
    // The driver goes on trying.
    client.connect().catch(() => undefined)
  }

  /** Resolves once it is connected, or after so many milliseconds. */
  async settled(ms: number): Promise<void> {
    if (this.isReady) return
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#client.off("ready", done)
        resolve()
      }
      const timer = setTimeout(done, ms)
      this.#client.on("ready", done)
    })
  }

  /** In how many ways a message on the channel reaches this connection, once what is under way is done. */
  async ways(channel: string, pattern: string): Promise<number> {
    if (this.#pending > 0) await this.#changes
    return [`subscribe ${channel}`, `psubscribe ${pattern}`].filter((name) => this.#counts.has(name)).length
  }

  /** Subscribes. Raises STORE_UNAVAILABLE. */
  async add(way: Way, name: string): Promise<void> {
    const id = `${way} ${name}`
    const count = (this.#counts.get(id) ?? 0) + 1
    this.#counts.set(id, count)
    try {
      await this.#change(async () => {
        if (count === 1) await this.#client[way](name)
      })
    } catch (error) {
      this.remove(way, name)
      throw replyWord(error) === undefined ? storeUnavailable(error) : toDomainError(error, "read")
    }
  }

  /** Ends a subscription that {@link add} made. */
  remove(way: Way, name: string): void {
    const id = `${way} ${name}`
    const left = (this.#counts.get(id) ?? 1) - 1
    if (left > 0) {
      this.#counts.set(id, left)
      return
    }
    this.#counts.delete(id)
    this.#change(async () => {
      // Somebody may have come meanwhile. A lost connection has forgotten it anyway.
      if (!this.#counts.has(id))
        await this.#client[way === "subscribe" ? "unsubscribe" : "punsubscribe"](name)
    }).catch(() => undefined)
  }

  /** Whether messages come in now. */
  get isReady(): boolean {
    return this.#client.status === "ready"
  }

  /** Ends the connection. */
  close(): void {
    clearInterval(this.#pings)
    this.#client.disconnect()
  }

  async #change(work: () => Promise<void>): Promise<void> {
    this.#pending++
    const done = this.#changes.then(work)
    this.#changes = done.catch(() => undefined)
    try {
      await done
    } finally {
      this.#pending--
    }
  }
}
