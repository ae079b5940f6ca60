/** What the daemon knows of an engine, whatever it is. */
import type { TenantEraser } from "../../domain/control/erasure.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { VectorStore } from "../../domain/memory/vector-store.ts"
import type { CassandraEngine } from "../../stores/cassandra/index.ts"
import type { SqlEngine } from "../../stores/postgres/index.ts"
import type { CacheEngines } from "./cache.ts"

/** The stores of the configuration. */
export const STORES = ["memory", "vectors", "events", "control", "cache"] as const

/** One of {@link STORES}. */
export type StoreName = (typeof STORES)[number]

/** The engine itself, for the planes that know how to use it. */
export type EngineHandle =
  | { readonly kind: "sql"; readonly sql: SqlEngine }
  | { readonly kind: "cache"; readonly cache: CacheEngines }
  | { readonly kind: "cassandra"; readonly cassandra: CassandraEngine }
  | { readonly kind: "vectors"; readonly vectors: VectorStore }

/** One schema change of an engine. */
export interface SchemaChange {
  readonly version: number
  readonly name: string
  readonly checksum: string
  /** Undefined while it is pending. */
  readonly appliedAt?: Date | undefined
  readonly durationMs?: number | undefined
}

/** An engine's schema. */
export interface EngineSchema {
  /** Brings it up to date, or with `dryRun` only answers what that would apply. Rejects with SCHEMA_MISMATCH. */
  migrate(options: { readonly dryRun: boolean }): Promise<readonly Pick<SchemaChange, "version" | "name">[]>
  /** All changes there are. Rejects with SCHEMA_MISMATCH. */
  list(): Promise<readonly SchemaChange[]>
}

/** An open engine and the stores it serves. Open does not mean that it answers: a server may come up later. */
export interface OpenEngine {
  /** For people and metrics: the names of its stores joined by `+`, e.g. `memory+events+control`. */
  readonly name: string
  readonly stores: readonly StoreName[]
  /** Where it is, without secrets. */
  readonly place: string
  /** Whether it works in this thread: then it is always there, and nothing has to be waited for. */
  readonly inThread: boolean
  readonly handle: EngineHandle
  readonly schema?: EngineSchema
  /** What it is and what it can, as far as that is known yet. */
  describe(): { readonly engine: string; readonly capabilities: Readonly<Record<string, string>> }
  /** Resolves when it answers. Rejects with DomainError. */
  ping(scope: CallScope): Promise<void>
  /** Its connections, where it has any. */
  pool?(): { readonly inUse: number; readonly idle: number; readonly waiting: number }
  /** Proves, once its schema is up to date, that it can be used safely. Rejects with STORE_AUTH. */
  verify?(): Promise<void>
  /** Removes what it has of a tenant. */
  readonly eraser: TenantEraser
  /** Ends all connections after the work in flight. */
  close(): Promise<void>
}

/** Capabilities as text, for AdminService. */
export function capabilityTexts(capabilities: object): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(capabilities)
      .filter(([key, value]) => key !== "engine" && value !== undefined && typeof value !== "function")
      .map(([key, value]) => [key, String(value)]),
  )
}
