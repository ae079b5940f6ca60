import type { Duplex } from "node:stream"
import type { CompiledMethod } from "./compile.ts"
import type { RpcLimits } from "./limits.ts"

/** A server for one wire protocol. It is handed connections, so that several protocols can share a port. */
export interface Transport {
  /** Takes over a connection whose first bytes have been looked at and put back. `peer` is `unix` for socket files. */
  accept(connection: Duplex): void
  /** Refuses new calls and closes each connection once its calls have ended. */
  drain(): void
  /** Closes every connection at once. */
  close(): void
}

/** What a transport serves: methods by path. */
export type Methods = ReadonlyMap<string, CompiledMethod>

/** Makes the transport for HTTP/2 connections. Nothing else depends on which one it is. */
export type TransportFactory = (methods: Methods, limits: RpcLimits) => Transport
