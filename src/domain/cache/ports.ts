/** What the cache plane needs of an engine. Everything here can be had from Redis with one command or script per key or entity. */
import type { JsonValue } from "../kernel/json.ts"
import type { Operations } from "../kernel/operations.ts"
import type { Page, PageRequest } from "../kernel/paging.ts"
import type { CallScope } from "../kernel/scope.ts"
import type { CacheEntry, CacheKeyInfo, CacheValue, Namespace } from "./model.ts"
import type { Operation, Outcome, ReadOperation, ResultOf, WriteOperation } from "./operations.ts"
import type { RateLimitRule, RateLimitVerdict } from "./rate-limit.ts"

/** Engines that answer from memory do so without a promise. */
export type Awaitable<T> = T | Promise<T>

/** What an engine can do and where its limits lie. */
export interface CacheCapabilities {
  /** The engine's name, as in UNSUPPORTED_BY_ENGINE. */
  readonly engine: string
  /** Whether keys outlive a restart of the daemon. */
  readonly durable: boolean
  /** Whether other daemons see the same keys and messages. */
  readonly shared: boolean
  /** Whether RunScript works. */
  readonly scripts: boolean
  /** Why scripts do not work, where they do not. */
  readonly scriptsReason?: string
  /** Whether a failed atomic Execute or script leaves no trace; otherwise it only is isolated. */
  readonly rollback: boolean
  /** Largest sum of one key's content, in bytes. */
  readonly maximumKeyBytes: number
}

/**
 * Keys and their content. Every method first raises DEADLINE_EXCEEDED where the scope's deadline has passed and
 * STORE_UNAVAILABLE after close; the engine is unreachable likewise. A failed call has no effect. Mutations with
 * `scope.idempotency` answer a repetition with the first result and raise REQUEST_ID_REUSED for another body.
 */
export interface CacheStore {
  readonly capabilities: CacheCapabilities

  /** The value of a key; undefined for a miss. Raises WRONG_TYPE where the key holds a collection. */
  get(scope: CallScope, namespace: Namespace, key: string): Awaitable<CacheEntry | undefined>

  /** The values of keys in their order. Raises WRONG_TYPE as `get` does. */
  batchGet(
    scope: CallScope,
    namespace: Namespace,
    keys: readonly string[],
  ): Awaitable<readonly (CacheEntry | undefined)[]>

  /** Runs a read. Raises WRONG_TYPE where the key holds another kind, LIMIT_EXCEEDED where the answer would be too long. */
  read<O extends ReadOperation>(scope: CallScope, operation: O): Awaitable<ResultOf<O>>

  /**
   * Runs a write. Raises WRONG_TYPE where the key holds another kind (but `set` replaces any), REVISION_MISMATCH where `ifRevision`
   * does not hold, LIMIT_EXCEEDED where the key would get too large or too long, FAILED_PRECONDITION where a sum overflows.
   */
  write<O extends WriteOperation>(scope: CallScope, operation: O): Awaitable<ResultOf<O>>

  /**
   * Runs operations in order. Atomic (all of one namespace): nobody sees a part, and the first failure is raised with `operation`
   * (its index) in the metadata, after which nothing has happened. Not atomic: each has its own outcome.
   */
  execute(scope: CallScope, operations: readonly Operation[], atomic: boolean): Awaitable<readonly Outcome[]>

  /** Keys that begin with `prefix`. A key that is there all the time comes exactly once; the cursor is the engine's. */
  listKeys(
    scope: CallScope,
    namespace: Namespace,
    prefix: string,
    page: PageRequest,
  ): Awaitable<Page<CacheKeyInfo>>

  /** Makes every key with one of the tags absent, at a cost that does not depend on how many there are. */
  invalidateTags(scope: CallScope, namespace: Namespace, tags: readonly string[]): Awaitable<void>

  /** Deletes the keys that fit the glob pattern (see ./glob); answers how many. */
  invalidatePattern(scope: CallScope, namespace: Namespace, pattern: string): Awaitable<number>

  /** Deletes all keys of the tenant in the namespace; answers how many. */
  clearNamespace(scope: CallScope, namespace: Namespace): Awaitable<number>

  /**
   * Runs a registered script atomically. Raises NOT_FOUND for an unknown name, INVALID_FIELD for a NUL in a key or an argument,
   * SCRIPT_FAILED where it raises an error, touches an undeclared key or exceeds its limits, UNSUPPORTED_BY_ENGINE where there are no
   * scripts.
   */
  runScript(scope: CallScope, namespace: Namespace, call: ScriptCall): Awaitable<JsonValue>

  /** Frees expired and invalidated keys, at most `limit` of them looked at; answers how many went. */
  sweep(scope: CallScope, limit: number): Awaitable<number>

  /** Frees everything. Calls after it raise STORE_UNAVAILABLE. */
  close(): Promise<void>
}

/** A script by name with its declared keys and its arguments. */
export interface ScriptCall {
  readonly name: string
  readonly keys: readonly string[]
  readonly args: readonly string[]
}

/** A message on its way to a subscriber. */
export interface TopicMessage {
  readonly topic: string
  /** Rises within the topic, by one while anybody subscribes. */
  readonly sequence: bigint
  readonly payload: CacheValue
  readonly publishTimeMs: number
}

/** What a subscription yields. */
export type TopicFrame =
  | { readonly kind: "message"; readonly message: TopicMessage }
  | { readonly kind: "heartbeat"; readonly timeMs: number }
  /** `dropped` is 0 where nobody can know, after a lost connection. */
  | { readonly kind: "discontinuity"; readonly dropped: number }

/** What to subscribe to. */
export interface Subscription {
  readonly topics: readonly string[]
  /** Glob patterns over topics. */
  readonly patterns: readonly string[]
  readonly heartbeatIntervalMs: number
}

/** Messages that are sent at most once and kept nowhere. */
export interface PubSub {
  /** Hands a message to whoever subscribes now; idempotency and errors as in {@link CacheStore}. */
  publish(
    scope: CallScope,
    topic: string,
    payload: CacheValue,
  ): Awaitable<{ readonly sequence: bigint; readonly subscribers: number }>

  /**
   * Subscribes before it returns; the first frame is a heartbeat. Ends without error when `scope.signal` aborts or the engine
   * closes. A consumer that does not keep up loses messages and gets a discontinuity frame in their place. Raises
   * INVALID_FIELD for a malformed pattern, LIMIT_EXCEEDED for too many subscriptions of the tenant.
   */
  subscribe(scope: CallScope, subscription: Subscription): AsyncIterable<TopicFrame>

  /** Ends all subscriptions. */
  close(): Promise<void>
}

/** Sliding windows. */
export interface RateLimiter {
  /**
   * Counts the cost against every rule, or against none where one denies. Atomic over all rules; idempotency and errors as in
   * {@link CacheStore}. The verdicts are in the rules' order.
   */
  check(
    scope: CallScope,
    rules: readonly RateLimitRule[],
  ): Awaitable<{ readonly allowed: boolean; readonly verdicts: readonly RateLimitVerdict[] }>

  /** Frees windows in which nothing happened for their whole length; answers how many went. */
  sweep(scope: CallScope, limit: number): Awaitable<number>

  /** Frees everything. */
  close(): Promise<void>
}

/** What the methods of {@link CacheStore} do. */
export const CACHE_STORE_OPERATIONS: Operations<CacheStore> = {
  get: "read",
  batchGet: "read",
  read: "read",
  listKeys: "read",
  write: "write",
  execute: "write",
  invalidateTags: "write",
  invalidatePattern: "write",
  clearNamespace: "write",
  runScript: "write",
  sweep: "write",
  close: "plain",
}

/** What the methods of {@link PubSub} do. */
export const PUB_SUB_OPERATIONS: Operations<PubSub> = {
  publish: "write",
  subscribe: "stream",
  close: "plain",
}

/** What the methods of {@link RateLimiter} do. */
export const RATE_LIMITER_OPERATIONS: Operations<RateLimiter> = {
  check: "write",
  sweep: "write",
  close: "plain",
}
