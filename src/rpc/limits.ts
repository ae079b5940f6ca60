/** How much a caller may ask of the transport. Bootstrap fills this from the configuration. */
export interface RpcLimits {
  /** Largest request or response message in bytes, inclusive. */
  readonly maxMessageBytes: number
  /** Concurrent HTTP/2 streams on one connection. */
  readonly maxStreamsPerConnection: number
  /** Memory that one HTTP/2 session may hold, in megabytes. */
  readonly sessionMemoryMb: number
  /** Open connections over all listeners of the data port. */
  readonly maxConnections: number
  /** Unary calls in flight in the whole daemon. */
  readonly maxInFlight: number
  /** Unary calls in flight for one tenant. */
  readonly maxInFlightPerTenant: number
  /** Share of maxInFlight above which a tenant with more than its fair share of the calls is shed. */
  readonly fairShareAt: number
  /** Share of the memory above which new streams, and tenants with more than their fair share, are shed. */
  readonly shedAtMemory: number
  /** Share of the memory above which every call is shed. */
  readonly refuseAtMemory: number
  /** Open streams and long polls for one tenant. */
  readonly maxStreamsPerTenant: number
  /** How deep messages, Structs and lists may nest. */
  readonly maxDepth: number
  /** The deadline of a unary call whose client sent none, in milliseconds. */
  readonly defaultDeadlineMs: number
  /** The longest deadline of a call that is neither a stream nor long-lived; longer ones are shortened to it. */
  readonly maxDeadlineMs: number
  /** RST_STREAM frames one connection may send at once before it is closed, and how many more per second. */
  readonly resetBurst: number
  readonly resetRate: number
}

/** What holds where the configuration says nothing. */
export const DEFAULT_LIMITS: RpcLimits = {
  maxMessageBytes: 4 * 1024 * 1024,
  maxStreamsPerConnection: 1024,
  sessionMemoryMb: 256,
  maxConnections: 1024,
  maxInFlight: 4096,
  maxInFlightPerTenant: 2048,
  fairShareAt: 0.875,
  shedAtMemory: 0.9,
  refuseAtMemory: 0.95,
  maxStreamsPerTenant: 512,
  maxDepth: 64,
  defaultDeadlineMs: 30_000,
  maxDeadlineMs: 3_600_000,
  resetBurst: 20_000,
  resetRate: 5_000,
}

/**
 * Options of node:http2 that keep a storm of cancels from closing the connection, with everybody else's calls on it. By
 * default it ends after 1000 resets at once, or after 100 streams that came before their cancelled predecessors were cleared
 * away; those are still refused, one by one.
 */
export function stormOptions(limits: RpcLimits): {
  readonly streamResetBurst: number
  readonly streamResetRate: number
  readonly maxSessionRejectedStreams: number
} {
  return {
    streamResetBurst: limits.resetBurst,
    streamResetRate: limits.resetRate,
    maxSessionRejectedStreams: limits.resetBurst,
  }
}
