/**
 * Makes the driver's clients. The driver repeats nothing by itself: no offline queue, no sending again after a reconnect, no retries,
 * since a command whose answer was lost may have run. Passwords and certificates in files are read at each new connection.
 */
import { readFileSync } from "node:fs"
import type { ConnectionOptions } from "node:tls"
import { Redis, type RedisOptions } from "ioredis"
import type { Address, Endpoint, TlsFiles } from "./address.ts"
import { replyWord, storeUnavailable, toDomainError } from "./errors.ts"

const CONNECT_TIMEOUT_MS = 5_000
const RECONNECT_MIN_MS = 50
const RECONNECT_MAX_MS = 2_000
/** How often a connection is given up because the server at its end no longer takes writes. */
const LEAVE_REPLICA_MS = 1_000

/** How a client behaves. */
export interface ClientSettings {
  /** The longest wait for an answer, in milliseconds. */
  readonly timeoutMs: number
  /** Read at each new connection; goes before the URL's own. */
  readonly passwordFile: string | undefined
}

/** How the servers that take calls are held. */
export interface NodeSettings extends ClientSettings {
  /** How many connections each has. */
  readonly connections: number
  /** Lua texts that a server is taught as soon as it is there, so that the first calls need not bring them. */
  readonly scripts: readonly string[]
}

/**
 * A client of one server of an address: of the one that `place` names before each connection, of its first, or of the master that
 * sentinels name. Does not connect.
 */
export function makeClient(address: Address, settings: ClientSettings, place?: () => Endpoint): Redis {
  const { timeoutMs } = settings
  const client = new Redis({
    ...placeOf(address, place?.(), timeoutMs),
    protocol: 2,
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    maxRetriesPerRequest: 0,
    disableClientInfo: true,
    db: address.database,
    connectTimeout: CONNECT_TIMEOUT_MS,
    // For what the driver itself asks for; see ./wire for the rest.
    socketTimeout: 2 * timeoutMs,
    keepAlive: 10_000,
    retryStrategy: (attempt) => {
      if (place !== undefined) Object.assign(client.options, place())
      return backoff(attempt)
    },
  })
  const file = settings.passwordFile ?? address.passwordFile
  if (address.user !== undefined) client.options.username = address.user
  if (address.password !== undefined) client.options.password = address.password
  // The driver looks at its options each time it connects.
  if (file !== undefined) {
    fromFile(client.options, "password", address.password, () => readFileSync(file, "utf8").trimEnd())
  }
  const { tls } = address
  if (tls !== undefined) {
    // Where no file can be read there still is TLS, with the system's authorities.
    const host = () => (address.kind === "sentinel" ? undefined : client.options.host)
    fromFile(client.options, "tls", {}, () => tlsOptions(tls, host()))
    if (address.kind === "sentinel")
      fromFile(client.options, "sentinelTLS", {}, () => tlsOptions(tls, undefined))
  }
  // Each call that fails says so itself, and the monitor tells when the server is away.
  client.on("error", () => undefined)
  return client
}

function placeOf(address: Address, endpoint: Endpoint | undefined, timeoutMs: number): RedisOptions {
  const { kind, endpoints, master, sentinelUser, sentinelPasswordFile, tls } = address
  if (kind !== "sentinel") return { ...(endpoint ?? endpoints[0]) }
  return {
    sentinels: [...endpoints],
    name: master,
    role: "master",
    sentinelRetryStrategy: backoff,
    sentinelCommandTimeout: timeoutMs,
    enableTLSForSentinelMode: tls !== undefined,
    ...(sentinelUser === undefined ? {} : { sentinelUsername: sentinelUser }),
    ...(sentinelPasswordFile === undefined
      ? {}
      : { sentinelPassword: readFileSync(sentinelPasswordFile, "utf8").trimEnd() }),
  }
}

function backoff(attempt: number): number {
  return Math.min(RECONNECT_MIN_MS * 2 ** Math.min(attempt, 10), RECONNECT_MAX_MS)
}

/** Whether to look for the master anew: at most once in a while, for it costs whoever waits for an answer. */
export function leavesReplica(): (error: Error) => boolean {
  let last = 0
  return (error) => {
    if (replyWord(error) !== "READONLY" || Date.now() - last < LEAVE_REPLICA_MS) return false
    last = Date.now()
    return true
  }
}

/** Lets an option be read anew each time; a file that cannot be read leaves what was read last, or at first what is given. */
function fromFile(options: object, name: string, first: unknown, read: () => unknown): void {
  let last = first
  Object.defineProperty(options, name, {
    enumerable: true,
    configurable: true,
    get: () => {
      try {
        last = read()
      } catch {
        // The server refuses the connection where the last one no longer holds, which is what callers are told.
      }
      return last
    },
  })
}

function tlsOptions(files: TlsFiles, host: string | undefined): ConnectionOptions {
  const { ca, certificate, key, serverName } = files
  const name = serverName ?? host
  return {
    ...(ca === undefined ? {} : { ca: readFileSync(ca) }),
    ...(certificate === undefined ? {} : { cert: readFileSync(certificate) }),
    ...(key === undefined ? {} : { key: readFileSync(key) }),
    // An address is no name; Node then compares the certificate with the host itself.
    ...(name === undefined || /^[\d.]+$|:/.test(name) ? {} : { servername: name }),
  }
}

/** Why a client that is not ready is not, as the last failure on it says. */
export class Trouble {
  #last: unknown

  constructor(client: Redis) {
    client.on("error", (error: unknown) => {
      this.#last = error
    })
    client.on("ready", () => {
      this.#last = undefined
    })
  }

  /** STORE_AUTH where the server refused the credentials, else STORE_UNAVAILABLE. */
  toError(): Error {
    return replyWord(this.#last) === undefined
      ? storeUnavailable(this.#last)
      : toDomainError(this.#last, "read")
  }
}
