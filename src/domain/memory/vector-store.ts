/**
 * A vector index beside the registry of collections: it keeps whole records (or copies of them) under their ids and searches
 * them. It knows nothing of collections but what a {@link VectorPlace} says, and keeps no answers of repeatable requests.
 */
import type { JsonObject } from "../kernel/json.ts"
import type { Operations } from "../kernel/operations.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { Collection } from "./model.ts"
import type { MemoryStore } from "./ports.ts"

/** What decides where a collection's records lie; pinned with the collection. */
export type VectorPlace = Pick<Collection, "ref" | "dimension" | "metric" | "index">

/** A record as it is to be kept, revision and times included. */
export interface VectorRecord {
  readonly id: string
  /** Undefined: a copy of a record whose text is elsewhere. */
  readonly text: string | undefined
  readonly vector: Float32Array
  readonly metadata: JsonObject
  readonly revision: bigint
  readonly createTimeMs: number
  readonly updateTimeMs: number
  readonly expireTimeMs: number | undefined
}

/**
 * Records by place and id. Every method sees only the scope's tenant, and reads show only records whose expiry has not passed and see
 * every write that was answered before. All reject with DEADLINE_EXCEEDED or CANCELLED when the scope ends, STORE_UNAVAILABLE when
 * the engine is away, STORE_AUTH, STORE_FULL and OVERLOADED; mutations may reject with OUTCOME_UNKNOWN, and are safe to repeat.
 * Reads mean what they mean in {@link MemoryStore}.
 */
export interface VectorStore
  extends Pick<MemoryStore, "capabilities" | "get" | "weigh" | "list" | "count" | "search"> {
  /** Makes the place ready, so that the first write need not. */
  prepare(scope: CallScope, place: VectorPlace): Promise<void>
  /** Puts records in, each replacing the one of its id. In no order, and a failure leaves some written. */
  write(scope: CallScope, place: VectorPlace, records: readonly VectorRecord[]): Promise<void>
  /** Takes records out; ids without a record are fine. */
  remove(scope: CallScope, place: VectorPlace, ids: readonly string[]): Promise<void>
  /** Takes everything of the place out. */
  drop(scope: CallScope, place: VectorPlace): Promise<void>
  /**
   * Takes out at most `limit` records that have expired, of the scope's tenant or of all for the daemon's own scope, and answers
   * how many of them were no copies.
   */
  sweep(scope: CallScope, limit: number): Promise<number>
}

/** What the methods of {@link VectorStore} do. */
export const VECTOR_STORE_OPERATIONS: Operations<VectorStore> = {
  prepare: "write",
  write: "write",
  remove: "write",
  drop: "write",
  sweep: "write",
  get: "read",
  weigh: "read",
  list: "read",
  count: "read",
  search: "read",
}
