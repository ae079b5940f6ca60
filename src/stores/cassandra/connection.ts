/** The way to the cluster: made in the background, made again where it failed, so that a cluster may come up after the daemon. */
import type cassandra from "cassandra-driver"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type ClientSettings, connectClient } from "./client.ts"
import { scopeEnded, storeUnavailable } from "./errors.ts"

const RETRY_MIN_MS = 100
const RETRY_MAX_MS = 5_000

/** Connections as the driver tells them. */
export interface ConnectionCounts {
  /** To nodes that are up. */
  readonly open: number
  /** Requests that the driver waits for. */
  readonly inFlight: number
}

/** One client in one keyspace. */
export class Connection {
  readonly #settings: ClientSettings
  readonly #keyspace: string | undefined
  #client: cassandra.Client | undefined
  #attempt: Promise<cassandra.Client> | undefined
  #failure: DomainError | undefined
  #failures = 0
  #retry: NodeJS.Timeout | undefined
  #closed = false

  constructor(settings: ClientSettings, keyspace: string | undefined) {
    this.#settings = settings
    this.#keyspace = keyspace
  }

  /** Begins to connect, and goes on until it has. */
  start(): void {
    void this.#connect().catch(() => undefined)
  }

  /** Whether the first connection was made. */
  get connected(): boolean {
    return this.#client !== undefined
  }

  /** See {@link ConnectionCounts}. */
  counts(): ConnectionCounts {
    const state = this.#client?.getState()
    let [open, inFlight] = [0, 0]
    for (const host of state?.getConnectedHosts() ?? []) {
      open += state?.getOpenConnections(host) ?? 0
      inFlight += state?.getInFlightQueries(host) ?? 0
    }
    return { open, inFlight }
  }

  /**
   * The client. Waits for an attempt that is under way; rejects with why the last one failed (STORE_UNAVAILABLE, STORE_AUTH,
   * SCHEMA_MISMATCH) while the next is not due, DEADLINE_EXCEEDED or CANCELLED when the scope ends first.
   */
  async client(scope: CallScope): Promise<cassandra.Client> {
    if (this.#client !== undefined) return this.#client
    if (this.#closed) throw closed()
    if (this.#attempt === undefined && this.#failure !== undefined) throw this.#failure
    return untilEnd(scope, this.#connect())
  }

  /** Tries again right away, after something was done about the last failure. */
  async reconnect(scope: CallScope): Promise<void> {
    if (this.#client !== undefined) return
    await this.#attempt?.catch(() => undefined)
    this.#failure = undefined
    await untilEnd(scope, this.#connect())
  }

  /** Ends all connections; what is out is lost. */
  async close(): Promise<void> {
    this.#closed = true
    clearTimeout(this.#retry)
    const [attempt] = await Promise.allSettled([this.#attempt])
    const client = this.#client ?? (attempt.status === "fulfilled" ? attempt.value : undefined)
    this.#client = undefined
    await client?.shutdown()
  }

  #connect(): Promise<cassandra.Client> {
    if (this.#client !== undefined) return Promise.resolve(this.#client)
    if (this.#closed) return Promise.reject(closed())
    this.#attempt ??= this.#try().finally(() => {
      this.#attempt = undefined
    })
    return this.#attempt
  }

  async #try(): Promise<cassandra.Client> {
    clearTimeout(this.#retry)
    try {
      const client = await connectClient(this.#settings, this.#keyspace)
      // What the client reports beside its answers is its hosts' coming and going, which calls notice by themselves.
      client.on("error", () => undefined)
      this.#failure = undefined
      this.#failures = 0
      this.#client = client
      return client
    } catch (error) {
      this.#failure = error instanceof DomainError ? error : storeUnavailable(error)
      const pause = Math.min(RETRY_MIN_MS * 2 ** this.#failures++, RETRY_MAX_MS)
      if (!this.#closed) this.#retry = setTimeout(() => this.start(), pause).unref()
      throw this.#failure
    }
  }
}

function closed(): DomainError {
  return new DomainError("STORE_UNAVAILABLE", "the connection to the event store is closed", {
    metadata: { store: "cassandra" },
  })
}

/** `work`, or DEADLINE_EXCEEDED or CANCELLED when the scope ends first; the work goes on then. */
async function untilEnd<T>(scope: CallScope, work: Promise<T>): Promise<T> {
  let stop = () => {}
  const ended = new Promise<never>((_, reject) => {
    const end = () => reject(scopeEnded(scope))
    const left = scope.deadlineMs - Date.now()
    const timer = Number.isFinite(left) ? setTimeout(end, Math.max(0, left)) : undefined
    stop = () => {
      clearTimeout(timer)
      scope.signal.removeEventListener("abort", end)
    }
    if (scope.signal.aborted) end()
    else scope.signal.addEventListener("abort", end, { once: true })
  })
  try {
    return await Promise.race([work, ended])
  } finally {
    stop()
  }
}
