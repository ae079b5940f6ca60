import type { Logger } from "../domain/kernel/logger.ts"
import type { TenantId } from "../domain/kernel/scope.ts"
import type { Authenticator } from "./auth/authenticator.ts"
import type { HealthRegistry } from "./builtin/health-registry.ts"
import type { Awaitable, Service } from "./handler.ts"
import type { RpcLimits } from "./limits.ts"
import type { CallObserver } from "./telemetry-seam.ts"
import type { TransportFactory } from "./transport.ts"

/** Where to listen. */
export interface ListenOptions {
  /** Address and port of the data port; port 0 takes a free one. Undefined: no TCP listener. */
  readonly tcp?: { readonly host: string; readonly port: number } | undefined
  /** Path of a Unix socket for the data port; mode 0660 after bind. */
  readonly unix?: string | undefined
  /** Address and port of the ops port. Undefined: none. */
  readonly ops?: { readonly host: string; readonly port: number } | undefined
}

/** What stands in the way of readiness: shown by /readyz. */
export interface NotReady {
  /** Part of the daemon, e.g. `store:postgres` or `migrations`. */
  readonly part: string
  /** One sentence without secrets. */
  readonly reason: string
}

/** What the ops port shows beyond the server's own state. */
export interface OpsSources {
  /** The text of /metrics. */
  metrics?(): Awaitable<{ readonly contentType: string; readonly body: string }>
  /** Everything that is not ready; empty when the daemon can serve. */
  readiness?(): Awaitable<readonly NotReady[]>
}

/** Knows the tenants; asked on the hot path, so it answers without a promise where it can. */
export interface TenantGate {
  exists(tenant: TenantId): Awaitable<boolean>
}

/** What {@link createServer} needs. */
export interface ServerOptions {
  readonly services: readonly Service[]
  readonly listen: ListenOptions
  readonly logger: Logger
  /** Undefined: authentication is off, every caller is the local principal, and only loopback and sockets are bound. */
  readonly authenticator?: Authenticator | undefined
  /** Which tenants a platform credential may name. Undefined: any. */
  readonly tenants?: TenantGate | undefined
  /** Undefined: telemetry is off. */
  readonly observer?: CallObserver | undefined
  readonly limits?: Partial<RpcLimits> | undefined
  /** What serves gRPC; the daemon's own layer on node:http2 unless given. */
  readonly makeTransport?: TransportFactory | undefined
  /** The share of the memory that is used, 0 to 1; a test sets it. */
  readonly memoryShare?: (() => number) | undefined
  /** Server reflection; on unless false. */
  readonly reflection?: boolean | undefined
  readonly ops?: OpsSources | undefined
}

/** Where the server listens. */
export interface Addresses {
  readonly tcp?: { readonly host: string; readonly port: number } | undefined
  readonly unix?: string | undefined
  readonly ops?: { readonly host: string; readonly port: number } | undefined
}

/** A snapshot for GetStatus. */
export interface ServerStats {
  readonly inFlight: number
  readonly streams: number
  readonly connections: number
}

/** The RPC edge of the daemon. */
export interface RpcServer {
  /** Which services serve; bootstrap sets it from its store monitors. */
  readonly health: HealthRegistry
  /** Binds everything or throws with a sentence that says what is in the way, leaving nothing bound. */
  start(): Promise<Addresses>
  /** Health to NOT_SERVING, GOAWAY, unary calls finish, streams end with DRAINING; what is left after `graceMs` is cut. Resolves when all is closed. */
  drain(graceMs: number): Promise<void>
  /** Closes everything at once. */
  stop(): Promise<void>
  stats(): ServerStats
}
