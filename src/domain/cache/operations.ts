/**
 * The operations on one key, as data: the same value is run by its RPC, inside Execute and Pipeline, and by scripts, so that an
 * engine implements each once. On Redis each is one command or one script over one key.
 */
import type { DomainError } from "../kernel/errors.ts"
import type { CacheEntry, CacheValue, Expiration, Namespace } from "./model.ts"

interface Target {
  readonly namespace: Namespace
  readonly key: string
}

/** How a write to a collection or a number treats expiry. */
interface Growth {
  /** Of a key that the operation creates; with `refreshTtl` also of one that exists. */
  readonly expiration: Expiration
  /** Restarts the time to live of an existing key: with `expiration`, else with the one it had last. */
  readonly refreshTtl: boolean
}

/** Reads a value. */
export interface GetOperation extends Target {
  readonly kind: "get"
}

/** Writes a value over whatever is there. */
export interface SetOperation extends Target, CacheValue {
  readonly kind: "set"
  readonly expiration: Expiration
  /** Leaves the expiry of an existing key; `expiration` then holds for a new one. */
  readonly keepExpiration: boolean
  readonly condition: "always" | "ifAbsent" | "ifPresent"
  /** 0n: the key must not exist. */
  readonly ifRevision: bigint | undefined
  readonly tags: readonly string[]
}

/** Deletes a key of any kind. */
export interface DeleteOperation extends Target {
  readonly kind: "delete"
  readonly ifRevision: bigint | undefined
}

/** What to add to a number, and within which bounds (inclusive) the sum must stay. */
export type Addition =
  | {
      readonly case: "integer"
      readonly delta: bigint
      readonly initial: bigint
      readonly minimum: bigint | undefined
      readonly maximum: bigint | undefined
    }
  | {
      readonly case: "number"
      readonly delta: number
      readonly initial: number
      readonly minimum: number | undefined
      readonly maximum: number | undefined
    }

/** Adds to a number under a key. */
export interface IncrementOperation extends Target, Growth {
  readonly kind: "increment"
  readonly addition: Addition
}

/** Changes the expiry of a key of any kind. */
export interface ExpireOperation extends Target {
  readonly kind: "expire"
  readonly expiration: Exclude<Expiration, undefined>
  readonly ifRevision: bigint | undefined
}

/** Sets fields of a hash. */
export interface HashSetOperation extends Target, Growth {
  readonly kind: "hashSet"
  readonly fields: readonly HashField[]
  readonly onlyIfAbsent: boolean
  readonly ifRevision: bigint | undefined
}

/** A field of a hash. */
export interface HashField {
  readonly name: string
  readonly value: CacheValue
}

/** Reads fields of a hash; no names means all. */
export interface HashGetOperation extends Target {
  readonly kind: "hashGet"
  readonly names: readonly string[]
}

/** Deletes fields of a hash. */
export interface HashDeleteOperation extends Target {
  readonly kind: "hashDelete"
  readonly names: readonly string[]
}

/** Adds to a number in a field of a hash. */
export interface HashIncrementOperation extends Target, Growth {
  readonly kind: "hashIncrement"
  readonly name: string
  readonly addition: Addition
}

/** Adds values to one end of a list, one after the other. */
export interface ListPushOperation extends Target, Growth {
  readonly kind: "listPush"
  readonly end: "head" | "tail"
  readonly values: readonly CacheValue[]
  /** Cut the other end to this length; 0 for the namespace's maximum. */
  readonly maximumLength: number
  readonly onlyIfPresent: boolean
}

/** A range of indexes or ranks, both ends inclusive; negative counts from the end. */
export interface IndexRange {
  readonly start: number
  readonly stop: number
}

/** Reads a range of a list. */
export interface ListRangeOperation extends Target, IndexRange {
  readonly kind: "listRange"
  /** LIMIT_EXCEEDED beyond this many values. */
  readonly maximumItems: number
}

/** Takes values from one end of a list. */
export interface ListPopOperation extends Target {
  readonly kind: "listPop"
  readonly end: "head" | "tail"
  readonly count: number
}

/** Keeps a range of a list. */
export interface ListTrimOperation extends Target, IndexRange {
  readonly kind: "listTrim"
}

/** A member of a sorted set. */
export interface ScoredMember {
  readonly member: string
  /** Finite. */
  readonly score: number
}

/** Adds members or changes scores. */
export interface SortedSetAddOperation extends Target, Growth {
  readonly kind: "sortedSetAdd"
  readonly members: readonly ScoredMember[]
  readonly condition: "always" | "ifAbsent" | "ifPresent" | "ifGreater" | "ifLess"
}

/** A range of scores. */
export interface ScoreBounds {
  /** -Infinity for none. */
  readonly minimum: number
  /** Infinity for none. */
  readonly maximum: number
  readonly minimumExclusive: boolean
  readonly maximumExclusive: boolean
}

/** Reads members in order of score, equal scores in order of member. */
export interface SortedSetRangeOperation extends Target {
  readonly kind: "sortedSetRange"
  readonly by: { readonly rank: IndexRange } | { readonly score: ScoreBounds }
  readonly reverse: boolean
  readonly offset: number
  readonly limit: number
}

/** Removes members. */
export interface SortedSetRemoveOperation extends Target {
  readonly kind: "sortedSetRemove"
  readonly members: readonly string[]
}

/** Adds to a member's score. */
export interface SortedSetIncrementOperation extends Target, Growth {
  readonly kind: "sortedSetIncrement"
  readonly member: string
  readonly delta: number
}

/** Operations that change nothing but recency and, where the namespace says so, expiry. */
export type ReadOperation = GetOperation | HashGetOperation | ListRangeOperation | SortedSetRangeOperation

/** Operations that change a key. */
export type WriteOperation =
  | SetOperation
  | DeleteOperation
  | IncrementOperation
  | ExpireOperation
  | HashSetOperation
  | HashDeleteOperation
  | HashIncrementOperation
  | ListPushOperation
  | ListPopOperation
  | ListTrimOperation
  | SortedSetAddOperation
  | SortedSetRemoveOperation
  | SortedSetIncrementOperation

/** Any operation on one key. */
export type Operation = ReadOperation | WriteOperation

/** State of a key after an operation: revision 0n and no expiry where it does not exist. */
export interface KeyState {
  readonly revision: bigint
  /** Milliseconds since the epoch; Infinity for none. */
  readonly expireTimeMs: number
}

/** A sum, or with `applied` false the number that stayed. */
export interface IncrementResult extends KeyState {
  readonly sum:
    | { readonly case: "integer"; readonly value: bigint }
    | { readonly case: "number"; readonly value: number }
  readonly applied: boolean
}

/** What each operation answers, by its kind. */
export interface OperationResults {
  readonly get: CacheEntry | undefined
  readonly set: KeyState & { readonly applied: boolean }
  readonly delete: boolean
  readonly increment: IncrementResult
  readonly expire: KeyState & { readonly found: boolean }
  readonly hashSet: KeyState & { readonly created: number; readonly length: number }
  readonly hashGet: KeyState & {
    readonly found: boolean
    readonly fields: readonly HashField[]
    readonly length: number
  }
  readonly hashDelete: { readonly deleted: number; readonly length: number }
  readonly hashIncrement: IncrementResult
  readonly listPush: KeyState & { readonly length: number; readonly dropped: number }
  readonly listRange: KeyState & {
    readonly found: boolean
    readonly values: readonly CacheValue[]
    readonly length: number
  }
  readonly listPop: { readonly values: readonly CacheValue[]; readonly length: number }
  readonly listTrim: { readonly length: number; readonly dropped: number }
  readonly sortedSetAdd: KeyState & {
    readonly added: number
    readonly updated: number
    readonly length: number
  }
  readonly sortedSetRange: KeyState & {
    readonly found: boolean
    readonly members: readonly (ScoredMember & { readonly rank: number })[]
    readonly length: number
  }
  readonly sortedSetRemove: { readonly removed: number; readonly length: number }
  readonly sortedSetIncrement: KeyState & { readonly score: number; readonly rank: number }
}

/** What an operation of type `O` answers. */
export type ResultOf<O extends Operation> = OperationResults[O["kind"]]

/** One operation's end inside Execute or Pipeline. */
export type Outcome<O extends Operation = Operation> =
  | { readonly ok: true; readonly result: ResultOf<O> }
  | { readonly ok: false; readonly error: DomainError }
