/**
 * One connection that all calls share. The driver repeats nothing by itself: no offline queue, no sending again after a reconnect,
 * no retries, since a command whose answer was lost may have run.
 */
import { createHash } from "node:crypto"
import { Redis, type RedisOptions } from "ioredis"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { deadlineExceeded, outcomeUnknown, replyWord, storeUnavailable, toDomainError } from "./errors.ts"

/** Whether a command can change anything. */
export type Effect = "read" | "write"

/** What commands take. */
export type Argument = string | number | Buffer

/** What commands answer: bulk strings as buffers. */
export type Answer = Buffer | number | null | readonly Answer[]

/** A Lua text and the name by which the server keeps it. */
export interface Script {
  readonly text: string
  readonly sha: string
}

/** How to reach the server. */
export interface ConnectionOptions {
  /** `redis://` or `rediss://` with optional user, password and database number. */
  readonly url: string
  /** Stands for the server's clock, and for the machine's; only for tests. */
  readonly clock?: Clock | undefined
  /** The longest wait for an answer where no deadline is nearer, in milliseconds. */
  readonly timeoutMs?: number | undefined
}

/** The longest wait for an answer where nothing else is said. */
export const TIMEOUT_MS = 10_000

const CONNECT_TIMEOUT_MS = 5_000
const RECONNECT_MIN_MS = 50
const RECONNECT_MAX_MS = 2_000

/** Names a script. */
export function scriptOf(text: string): Script {
  return { text, sha: createHash("sha1").update(text).digest("hex") }
}

/** A client with the settings that every connection here has. It does not connect by itself. */
export function makeClient({ url, timeoutMs }: ConnectionOptions, rest: RedisOptions = {}): Redis {
  const client = new Redis(url, {
    protocol: 2,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    enableAutoPipelining: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    // A connection that answers nothing for so long is as good as gone.
    socketTimeout: 2 * (timeoutMs ?? TIMEOUT_MS),
    keepAlive: 10_000,
    retryStrategy: (attempt) => Math.min(RECONNECT_MIN_MS * 2 ** Math.min(attempt, 10), RECONNECT_MAX_MS),
    ...rest,
  })
  // Each call that fails says so itself, and the monitor tells when the server is away.
  client.on("error", () => undefined)
  return client
}

/** Connects for the first time, or ends the client and raises STORE_UNAVAILABLE or STORE_AUTH. */
export async function connectFirst(client: Redis): Promise<void> {
  let told: unknown
  const listen = (error: unknown) => {
    told ??= error
  }
  client.on("error", listen)
  try {
    await client.connect()
    await client.ping()
  } catch (error) {
    client.disconnect()
    // The driver tells a refused password apart only as an event.
    const cause = told ?? error
    throw replyWord(cause) === undefined ? storeUnavailable(cause) : toDomainError(cause, "read")
  } finally {
    client.off("error", listen)
  }
}

/** See the file's comment. */
export class Connection {
  readonly clock: Clock
  /** The time that scripts get: empty for the server's own. */
  readonly #manual: boolean
  readonly #client: Redis
  readonly #timeoutMs: number
  #waiting = 0

  constructor(options: ConnectionOptions) {
    this.#client = makeClient(options)
    this.clock = options.clock ?? systemClock
    this.#manual = options.clock !== undefined
    this.#timeoutMs = options.timeoutMs ?? TIMEOUT_MS
  }

  /** Connects for the first time. Raises STORE_UNAVAILABLE or STORE_AUTH; later losses are repaired without a word. */
  async connect(): Promise<void> {
    await connectFirst(this.#client)
  }

  /** Whether commands would be sent now. */
  get isReady(): boolean {
    return this.#client.status === "ready"
  }

  /** How many commands wait for an answer. */
  get waiting(): number {
    return this.#waiting
  }

  /** The time as scripts get it: empty for the server's own. */
  scriptTime(): string {
    return this.#manual ? String(this.clock.now()) : ""
  }

  /** Sends one command. Raises what ./errors makes of a failure; after the deadline the answer, should it come, is dropped. */
  async send(scope: CallScope, effect: Effect, command: string, args: readonly Argument[]): Promise<Answer> {
    const leftMs = scope.deadlineMs - this.clock.now()
    if (leftMs <= 0)
      throw deadlineExceeded("the deadline passed before the cache was asked; nothing was done")
    if (!this.isReady) throw storeUnavailable()
    this.#waiting++
    let timer: NodeJS.Timeout | undefined
    const timeout = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(late(effect, leftMs <= this.#timeoutMs)),
        Math.min(leftMs, this.#timeoutMs),
      )
    })
    try {
      return await Promise.race([this.#send(command, args), timeout])
    } catch (error) {
      if (replyWord(error) === "NOSCRIPT") throw error
      throw toDomainError(error, effect)
    } finally {
      this.#waiting--
      clearTimeout(timer)
    }
  }

  /** Runs a script, which the server gets in full only where it does not know it. */
  async run(
    scope: CallScope,
    effect: Effect,
    { text, sha }: Script,
    keys: readonly string[],
    args: readonly Argument[],
  ): Promise<readonly Answer[]> {
    const rest: readonly Argument[] = [keys.length, ...keys, ...args]
    try {
      return asList(await this.send(scope, effect, "EVALSHA", [sha, ...rest]))
    } catch (error) {
      // The server refused it unread, so it may be sent again.
      if (replyWord(error) !== "NOSCRIPT") throw error
      return asList(await this.send(scope, effect, "EVAL", [text, ...rest]))
    }
  }

  /** Ends the connection; what is out is answered as lost. */
  close(): void {
    this.#client.disconnect()
  }

  /** By the driver's method of the command's name, since only those are put into one packet with others. */
  #send(command: string, args: readonly Argument[]): Promise<Answer> {
    const methods = this.#client as unknown as Record<
      string,
      (...args: readonly Argument[]) => Promise<Answer>
    >
    const method = methods[`${command.toLowerCase()}Buffer`]
    if (method === undefined) throw new RangeError(`the driver has no command ${command}`)
    return method.apply(this.#client, [...args])
  }
}

/** What a missing answer means: at the call's deadline, or because the server does not answer at all. */
function late(effect: Effect, atDeadline: boolean): DomainError {
  if (effect === "write") return outcomeUnknown()
  return atDeadline ? deadlineExceeded("the deadline passed before the cache answered") : storeUnavailable()
}

/** A list that a script must have answered. */
export function asList(answer: Answer | undefined): readonly Answer[] {
  if (Array.isArray(answer)) return answer as readonly Answer[]
  throw new DomainError("INTERNAL", "internal error", {
    cause: new TypeError("the cache store's answer is not a list"),
  })
}

/** Bytes that a script must have answered. */
export function asBytes(answer: Answer | undefined): Buffer {
  if (Buffer.isBuffer(answer)) return answer
  throw new DomainError("INTERNAL", "internal error", {
    cause: new TypeError("the cache store's answer is not a text"),
  })
}

/** A text that a script must have answered. */
export function asText(answer: Answer | undefined): string {
  return asBytes(answer).toString("utf8")
}

/** A number that a script answered as text. */
export function asNumber(answer: Answer | undefined): number {
  return Number(asText(answer))
}
