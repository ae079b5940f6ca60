/**
 * The driver, held on a short lead: it connects when first needed and not before, repeats nothing by itself, ends with the call's scope,
 * and every answer must carry a status.
 */
import type { MilvusClient } from "@zilliz/milvus2-sdk-node"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { endedScope, requireLive } from "../../domain/kernel/wake-ups.ts"
import type { MilvusAddress } from "./address.ts"
import { Driver, Lead } from "./driver.ts"
import {
  type Effect,
  MilvusStatusError,
  outcomeUnknown,
  storeUnavailable,
  toDomainError,
  unknownCall,
} from "./errors.ts"
import { type ServerFeatures, serverFeatures } from "./features.ts"

/** The longest wait for an answer where no deadline is nearer. */
const TIMEOUT_MS = 30_000
const CONNECT_TIMEOUT_MS = 5_000
/** One stub for all calls, and one for those that say that the connection is there. */
const STUBS = 2
/**
 * How the connection is kept: a server that was away is looked for every second again, and not, as by default, after up to two minutes; one
 * that is busy may take its time to answer a ping; and none is pinged for nothing, which some servers end the connection for.
 */
const CHANNEL_OPTIONS = {
  "grpc.enable_retries": 0,
  "grpc.initial_reconnect_backoff_ms": 100,
  "grpc.max_reconnect_backoff_ms": 1_000,
  "grpc.keepalive_time_ms": 10_000,
  "grpc.keepalive_timeout_ms": 10_000,
  "grpc.keepalive_permit_without_calls": 0,
}

/** The driver's client. */
export type Client = MilvusClient

/** Asked for the password at each new connection. */
export type PasswordSource = () => string | Promise<string>

interface Opened {
  readonly driver: Driver
  readonly features: ServerFeatures
}

/** See the file's comment. */
export class Connection {
  readonly #address: MilvusAddress
  readonly #password: PasswordSource
  #open: Promise<Opened> | undefined
  /** What {@link #open} became. */
  #opened: Opened | undefined
  #features: ServerFeatures | undefined
  #waiting = 0
  #closed = false

  /** `password` takes the place of the address's. */
  constructor(address: MilvusAddress, password?: PasswordSource) {
    this.#address = address
    this.#password = password ?? (() => address.password)
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
    const open = await this.within(scope, "read", this.#connected())
    const timeoutMs = Math.max(1, Math.min(TIMEOUT_MS, scope.deadlineMs - Date.now()))
    const lead = new Lead()
    this.#waiting++
    try {
      const work = send(open.driver.on(lead), timeoutMs, open.features)
      const answer = await this.within(scope, effect, work, () => lead.cancel())
      checkStatus(answer)
      return answer
    } catch (error) {
      const told = toDomainError(error, effect)
      if (told.reason === "STORE_AUTH") this.#forget(open)
      throw told
    } finally {
      this.#waiting--
    }
  }

  /** One read whose messages are ours: bytes both ways. Fails as {@link call} does. */
  async read<T extends object>(
    scope: CallScope,
    path: string,
    request: Buffer,
    decode: (answer: Buffer) => T,
  ): Promise<T> {
    requireLive(scope)
    const open = this.#opened ?? (await this.within(scope, "read", this.#connected()))
    this.#waiting++
    try {
      const answer = decode(await exchange(open.driver, scope, path, request))
      checkStatus(answer)
      return answer
    } catch (error) {
      const told = toDomainError(error, "read")
      if (told.reason === "STORE_AUTH") this.#forget(open)
      throw told
    } finally {
      this.#waiting--
    }
  }

  /** What the server can. Connects where that has not happened yet. */
  async serverFeatures(scope: CallScope): Promise<ServerFeatures> {
    requireLive(scope)
    return (this.#opened ?? (await this.within(scope, "read", this.#connected()))).features
  }

  /** Ends the connection. */
  async close(): Promise<void> {
    this.#closed = true
    const open = this.#open
    this.#open = undefined
    this.#opened = undefined
    if (open === undefined) return
    const [settled] = await Promise.allSettled([open])
    if (settled.status === "fulfilled") await endDriver(settled.value.driver)
  }

  #connected() {
    if (this.#closed) return Promise.reject(storeUnavailable())
    this.#open ??= this.#connect().catch((error: unknown) => {
      this.#open = undefined
      throw error
    })
    return this.#open
  }

  async #connect(): Promise<Opened> {
    const { address, username, database, tls, caFile } = this.#address
    const driver = new Driver({
      address,
      username,
      password: await this.#secret(),
      database,
      ssl: tls,
      ...(caFile === undefined ? {} : { tls: { rootCertPath: caFile } }),
      timeout: CONNECT_TIMEOUT_MS,
      maxRetries: 0,
      logLevel: "none",
      channelOptions: CHANNEL_OPTIONS,
      pool: { min: 0, max: STUBS },
      __SKIP_CONNECT__: true,
    })
    try {
      await driver.open()
      const answer = await driver.getVersion()
      checkStatus(answer)
      this.#features = serverFeatures(answer.version)
      this.#opened = { driver, features: this.#features }
      return this.#opened
    } catch (error) {
      await endDriver(driver)
      throw toDomainError(error, "read")
    }
  }

  async #secret(): Promise<string> {
    try {
      return await this.#password()
    } catch (error) {
      // A file that is being replaced is there again in a moment.
      throw storeUnavailable(error)
    }
  }

  /** The next call connects anew, with the password as it is then, or as a user whose rights have changed. */
  #forget({ driver }: Opened): void {
    if (this.#opened?.driver !== driver) return
    this.#opened = undefined
    this.#open = undefined
    void endDriver(driver)
  }

  /** Waits for `work` no longer than the scope lasts; `stop` ends it then. */
  async within<T>(scope: CallScope, effect: Effect, work: Promise<T>, stop = () => {}): Promise<T> {
    const { promise, reject } = Promise.withResolvers<never>()
    const end = () => {
      stop()
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

/** The server hears of a deadline a little later than the caller, who is told by us. */
const MARGIN_MS = 50

/** Sends a request and waits for its answer, no longer than the scope lasts. */
function exchange(driver: Driver, scope: CallScope, path: string, request: Buffer): Promise<Buffer> {
  const { signal } = scope
  return new Promise((resolve, reject) => {
    const left = scope.deadlineMs - Date.now()
    const deadlineMs = Date.now() + Math.max(1, Math.min(TIMEOUT_MS, left + MARGIN_MS))
    const end = () => {
      clearTimeout(timer)
      signal.removeEventListener("abort", leave)
    }
    const cancel = driver.send(path, request, deadlineMs, {
      answer: (bytes) => {
        end()
        resolve(bytes)
      },
      fail: (error) => {
        end()
        reject(error)
      },
    })
    const leave = () => {
      end()
      reject(endedScope(scope))
      cancel()
    }
    const timer = left < TIMEOUT_MS ? setTimeout(leave, Math.max(0, left)) : undefined
    signal.addEventListener("abort", leave, { once: true })
  })
}

/** Ends a driver; that it cannot be ended in order hurts nobody. */
async function endDriver(driver: Driver): Promise<void> {
  await driver.end().catch(() => undefined)
}

/** Throws unless the answer says that all went well. Some calls answer the status itself. */
export function checkStatus(answer: unknown): void {
  const status = isObject(answer) && isObject(answer.status) ? answer.status : answer
  if (!isObject(status) || (status.error_code === undefined && status.code === undefined)) {
    throw unknownCall()
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
