/** Results of the domain's operations as answers of CacheService. */
import { getOption, type MessageInitShape } from "@bufbuild/protobuf"
import type { CacheEntry, CacheKind } from "../domain/cache/model.ts"
import type { KeyState, Operation, OperationResults, Outcome } from "../domain/cache/operations.ts"
import type { DomainError } from "../domain/kernel/errors.ts"
import type * as pb from "../gen/keelplane/v1/cache_service_pb.ts"
import { CacheKind as KindMessage } from "../gen/keelplane/v1/cache_service_pb.ts"
import { ErrorReasonSchema } from "../gen/keelplane/v1/error_reason_pb.ts"
import { error as errorOption } from "../gen/keelplane/v1/options_pb.ts"
import { toEntryMessage, toTimestamp, toValueMessage } from "./cache-values.ts"

const MISS: MessageInitShape<typeof pb.CacheServiceGetResponseSchema> = { found: false }

/** The answer of Get. */
export function fromGet(
  entry: CacheEntry | undefined,
): MessageInitShape<typeof pb.CacheServiceGetResponseSchema> {
  return entry === undefined ? MISS : { found: true, entry: toEntryMessage(entry) }
}

/** The state of the key that many answers carry. */
function stateOf({ revision, expireTimeMs }: KeyState) {
  return { revision, expireTime: toTimestamp(expireTimeMs) }
}

/** The answers of the other operations, by their kind. */
export const answers = {
  get: fromGet,
  // No spreading where calls are many.
  set: ({ applied, revision, expireTimeMs }: OperationResults["set"]) => ({
    applied,
    revision,
    expireTime: toTimestamp(expireTimeMs),
  }),
  delete: (deleted: OperationResults["delete"]) => ({ deleted }),
  increment: fromIncrement,
  expire: (result: OperationResults["expire"]) => ({ found: result.found, ...stateOf(result) }),
  hashSet: (result: OperationResults["hashSet"]) => ({
    created: result.created,
    length: BigInt(result.length),
    ...stateOf(result),
  }),
  hashGet: (result: OperationResults["hashGet"]) => ({
    found: result.found,
    fields: result.fields.map(({ name, value }) => ({ name, value: toValueMessage(value) })),
    length: BigInt(result.length),
    ...stateOf(result),
  }),
  hashDelete: (result: OperationResults["hashDelete"]) => ({
    deleted: result.deleted,
    length: BigInt(result.length),
  }),
  hashIncrement: fromIncrement,
  listPush: (result: OperationResults["listPush"]) => ({
    length: BigInt(result.length),
    dropped: BigInt(result.dropped),
    ...stateOf(result),
  }),
  listRange: (result: OperationResults["listRange"]) => ({
    found: result.found,
    values: result.values.map(toValueMessage),
    length: BigInt(result.length),
    ...stateOf(result),
  }),
  listPop: (result: OperationResults["listPop"]) => ({
    values: result.values.map(toValueMessage),
    length: BigInt(result.length),
  }),
  listTrim: (result: OperationResults["listTrim"]) => ({
    length: BigInt(result.length),
    dropped: BigInt(result.dropped),
  }),
  sortedSetAdd: (result: OperationResults["sortedSetAdd"]) => ({
    added: result.added,
    updated: result.updated,
    length: BigInt(result.length),
    ...stateOf(result),
  }),
  sortedSetRange: (result: OperationResults["sortedSetRange"]) => ({
    found: result.found,
    members: result.members.map(({ member, score, rank }) => ({ member, score, rank: BigInt(rank) })),
    length: BigInt(result.length),
    ...stateOf(result),
  }),
  sortedSetRemove: (result: OperationResults["sortedSetRemove"]) => ({
    removed: result.removed,
    length: BigInt(result.length),
  }),
  sortedSetIncrement: (result: OperationResults["sortedSetIncrement"]) => ({
    score: result.score,
    rank: BigInt(result.rank),
    ...stateOf(result),
  }),
} as const

function fromIncrement({ sum, applied, revision, expireTimeMs }: OperationResults["increment"]) {
  return { value: sum, applied, revision, expireTime: toTimestamp(expireTimeMs) }
}

/** One operation's end as an item of Execute's or Pipeline's answer. */
export function fromOutcome(
  kind: Operation["kind"],
  outcome: Outcome,
): MessageInitShape<typeof pb.CacheOperationResultSchema> {
  if (!outcome.ok) return fromError(outcome.error)
  // The table pairs each kind with its own result, which the compiler cannot follow through the union.
  const answer = answers[kind] as (result: unknown) => object
  return { result: { case: kind, value: answer(outcome.result) } } as MessageInitShape<
    typeof pb.CacheOperationResultSchema
  >
}

/** A failed operation as an item of an answer. */
export function fromError(error: DomainError): MessageInitShape<typeof pb.CacheOperationResultSchema> {
  const { reason, message, metadata } = error
  return {
    result: { case: "error", value: { code: codeOf(reason), reason, message, metadata: { ...metadata } } },
  }
}

const INTERNAL = 13
const CODES = new Map(
  ErrorReasonSchema.values.map((value) => [
    value.name.replace("ERROR_REASON_", ""),
    getOption(value, errorOption).code,
  ]),
)

function codeOf(reason: string): number {
  return CODES.get(reason) ?? INTERNAL
}

/** A kind of key as the API names it. */
export function fromKind(kind: CacheKind | "any"): KindMessage {
  switch (kind) {
    case "any":
      return KindMessage.UNSPECIFIED
    case "value":
      return KindMessage.VALUE
    case "hash":
      return KindMessage.HASH
    case "list":
      return KindMessage.LIST
    case "sortedSet":
      return KindMessage.SORTED_SET
  }
}
