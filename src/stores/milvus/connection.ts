/**
 * The driver, held on a short lead: it connects when first needed and not before, repeats nothing by itself, and every answer must carry
 * a status, for a call that a server does not know comes back as an empty object.
 */
import { MilvusClient } from "@zilliz/milvus2-sdk-node"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { endedScope, requireLive } from "../../domain/kernel/wake-ups.ts"
import type { MilvusAddress } from "./address.ts"
import { type Effect, MilvusStatusError, outcomeUnknown, storeUnavailable, toDomainError } from "./errors.ts"
import { type ServerFeatures, serverFeatures } from "./features.ts"

/** The longest wait for an answer where no deadline is nearer. */
const TIMEOUT_MS = 30_000
const CONNECT_TIMEOUT_MS = 5_000
const CHANNELS = 4

/** The driver's client. */
export type Client = MilvusClient

/** See the file's comment. */
export class Connection {
  readonly #address: MilvusAddress
  #open: Promise<{ readonly client: Client; readonly features: ServerFeatures }> | undefined
  #features: ServerFeatures | undefined
  #waiting = 0
  #closed = false

  constructor(address: MilvusAddress) {
    this.#address = address
  }

  /** What the server can, once it has answered for the first time. */
  get features(): ServerFeatures | undefined {
    return this.#features
  }

  /** How many calls wait for an answer. */
  get waiting(): number {
    return this.#waiting
  }

  /**
   * One call. `send` gets the time it may take and must hand it to the driver. Raises what ./errors makes of a failure, and
   * DEADLINE_EXCEEDED or CANCELLED; a change that was sent when the scope ended is OUTCOME_UNKNOWN.
   */
  async call<T extends object>(
    scope: CallScope,
    effect: Effect,
    send: (client: Client, timeoutMs: number, features: ServerFeatures) => Promise<T>,
  ): Promise<T> {
    requireLive(scope)
    const { client, features } = await this.within(scope, "read", this.#connected())
    const timeoutMs = Math.max(1, Math.min(TIMEOUT_MS, scope.deadlineMs - Date.now()))
    this.#waiting++
    try {
      const answer = await this.within(scope, effect, send(client, timeoutMs, features))
      checkStatus(answer)
      return answer
    } catch (error) {
      const told = toDomainError(error, effect)
      if (told.reason === "STORE_AUTH") this.#forget()
      throw told
    } finally {
      this.#waiting--
    }
  }

  /** What the server can. Connects where that has not happened yet. */
  async serverFeatures(scope: CallScope): Promise<ServerFeatures> {
    requireLive(scope)
    return (await this.within(scope, "read", this.#connected())).features
  }

  /** Ends the connection. */
  async close(): Promise<void> {
    this.#closed = true
    const open = this.#open
    this.#open = undefined
    if (open === undefined) return
    const [settled] = await Promise.allSettled([open])
    if (settled.status === "fulfilled") await closeClient(settled.value.client)
  }

  #connected() {
    if (this.#closed) return Promise.reject(storeUnavailable())
    this.#open ??= this.#connect().catch((error: unknown) => {
      this.#open = undefined
      throw error
    })
    return this.#open
  }

  async #connect() {
    const { address, username, password, database, tls, caFile } = this.#address
    const client = new MilvusClient({
      address,
      username,
      password,
      database,
      ssl: tls,
      ...(caFile === undefined ? {} : { tls: { rootCertPath: caFile } }),
      timeout: CONNECT_TIMEOUT_MS,
      maxRetries: 0,
      logLevel: "none",
      channelOptions: { "grpc.enable_retries": 0 },
      pool: { min: 0, max: CHANNELS },
      __SKIP_CONNECT__: true,
    })
    try {
      client.connect(MilvusClient.sdkInfo.version)
      await client.connectPromise
      const answer = await client.getVersion()
      checkStatus(answer)
      this.#features = serverFeatures(answer.version)
      return { client, features: this.#features }
    } catch (error) {
      await closeClient(client)
      throw toDomainError(error, "read")
    }
  }

  /** The next call connects anew, for instance with a user whose rights have changed. */
  #forget(): void {
    const open = this.#open
    this.#open = undefined
    open?.then(({ client }) => closeClient(client)).catch(() => undefined)
  }

  /** Waits for `work` no longer than the scope lasts. The driver cannot be told to stop, so its answer is left behind when the scope ends. */
  async within<T>(scope: CallScope, effect: Effect, work: Promise<T>): Promise<T> {
    const { promise, reject } = Promise.withResolvers<never>()
    const end = () => {
      const error = endedScope(scope)
      reject(effect === "write" ? outcomeUnknown(error) : error)
    }
    const left = scope.deadlineMs - Date.now()
    const timer = left < TIMEOUT_MS ? setTimeout(end, Math.max(0, left)) : undefined
    const { signal } = scope
    signal.addEventListener("abort", end, { once: true })
    if (signal.aborted) end()
    try {
      return await Promise.race([work, promise])
    } finally {
      clearTimeout(timer)
      signal.removeEventListener("abort", end)
    }
  }
}

/** Ends a client; that it cannot be ended in order hurts nobody. */
async function closeClient(client: Client): Promise<void> {
  await client.closeConnection().catch(() => undefined)
}

/** Throws unless the answer says that all went well. Some calls answer the status itself. */
export function checkStatus(answer: unknown): void {
  const status = isObject(answer) && isObject(answer.status) ? answer.status : answer
  if (!isObject(status) || (status.error_code === undefined && status.code === undefined)) {
    throw new DomainError("UNSUPPORTED_BY_ENGINE", "the vector store does not know a call that this needs", {
      metadata: { engine: "milvus", capability: "call" },
    })
  }
  const code = typeof status.code === "number" ? status.code : 0
  const word = String(status.error_code ?? "Success")
  if (code === 0 && (word === "Success" || word === "0")) return
  const reason = typeof status.reason === "string" ? status.reason : ""
  throw new MilvusStatusError(code, word, reason)
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null
}
