/** What a comparison needs of an engine. */
import type { Channel } from "../../test/support/grpc-client.ts"

/** What the ratio of a daemon's figure to others must be. */
export interface Target {
  readonly what: "cpu" | "append" | "batch" | "p50"
  readonly inFlight: number
}

/** What another sidecar is sent for the same work. */
export interface PeerWork {
  readonly path: string
  readonly bodies: readonly Uint8Array[]
}

/** One kind of work, by the daemon and by others. */
export interface Work {
  readonly name: string
  readonly items: number
  /** What the daemon is sent. */
  readonly path: string
  readonly bodies: readonly Uint8Array[]
  /** The name of the driver's call. */
  readonly bare: string
  /** Calls that do less, for comparison, by what they are called in the table. */
  readonly less?: Readonly<Record<string, string>>
  /** What Dapr's sidecar is sent, where it can do the same. */
  readonly daprd?: PeerWork
  readonly inFlight: readonly number[]
  readonly targets: readonly Target[]
}

/** A running server. */
export interface RunningEngine {
  /** What the driver is given. */
  readonly url: string
  /** Puts the daemon onto it. */
  readonly env: Readonly<Record<string, string>>
  /** Makes and fills what the daemon's calls read. */
  prepare(channel: Channel): Promise<void>
  readonly works: readonly Work[]
  stop(): Promise<void>
}

/** An engine that can be compared. */
export interface Engine {
  readonly name: string
  /** The driver, as ./bare-KIND. */
  readonly bare: string
  /** A store's adapter without the daemon, as ./bare-KIND. */
  readonly adapter?: string
  /** Starts its server, or takes the one that the environment names. Raises why there is none. */
  start(): Promise<RunningEngine>
}

/** CPU per call over an empty handler's and the driver's together: at most. */
export const CPU_RATIO = 1.25
/** Appends of many writers over those of a driver that does not group: at least. */
export const APPEND_RATIO = 1.5
/** Throughput of batched calls over the driver's: at least. */
export const BATCH_RATIO = 0.4
/** Latency alone over the driver's: less than. */
export const P50_RATIO = 1.15

/** The targets of a unary call: its CPU with many in flight. */
export const UNARY: readonly Target[] = [{ what: "cpu", inFlight: 64 }]
/** Those of a batched one. */
export const BATCHED: readonly Target[] = [{ what: "batch", inFlight: 64 }]
