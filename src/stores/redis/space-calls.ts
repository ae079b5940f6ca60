/** Calls of the store's scripts on one tenant's namespace. */
import type { CacheKind, Namespace } from "../../domain/cache/model.ts"
import type { GetOperation, Operation, Outcome } from "../../domain/cache/operations.ts"
import type { CallScope, TenantId } from "../../domain/kernel/scope.ts"
import { type Answer, type Argument, asList, asNumber, asText } from "./answers.ts"
import type { Connection, Script } from "./connection.ts"
import { atIndex, decodeFailure, decodeOutcome, requestIdReused } from "./decode-result.ts"
import { encodeOperation, finite } from "./encode-operation.ts"
import { storeClosed } from "./errors.ts"
import { hex, type Keys, RECORD_KEPT_MS, recordKey, SPACE_SUFFIXES } from "./keys.ts"
import { type OperationsScript, scriptFor } from "./lua/index.ts"
import type { Effect } from "./scoped-call.ts"

/** As the scripts have it: the most that one answer takes. */
export const ANSWER_BYTES = 4_000_000

/** A part of a tenant's namespace by name. */
export interface SpaceName {
  readonly tenant: TenantId
  readonly namespace: string
  /** See ./keys; 0 but in a cluster. */
  readonly partition: number
}

/** One call of a script. */
export interface SpaceCall {
  readonly script: Script
  readonly effect: Effect
  /** The part of the namespace in which all of the cache keys lie. */
  readonly partition: number
  /** The cache keys that it takes. */
  readonly keys: readonly string[]
  /** Names the call among those with one request_id; undefined where a repetition is harmless. */
  readonly repeatable: string | undefined
  readonly args: readonly Argument[]
}

/** What of a namespace the scripts need. */
export type Policy = Pick<
  Namespace,
  "name" | "maximumLength" | "capacityEntries" | "capacityBytes" | "refreshOnRead" | "refreshOnWrite"
>

/** For upkeep, which neither grows nor refreshes anything. */
export function upkeep(name: string): Policy {
  const none = Number.POSITIVE_INFINITY
  return {
    name,
    maximumLength: none,
    capacityEntries: none,
    capacityBytes: none,
    refreshOnRead: false,
    refreshOnWrite: false,
  }
}

/** What a full server is to refuse, whatever else is in the call. */
const GROWING: ReadonlySet<Operation["kind"]> = new Set([
  "set",
  "increment",
  "hashSet",
  "hashIncrement",
  "listPush",
  "sortedSetAdd",
  "sortedSetIncrement",
] as const)

/** What upkeep does to one key. */
export type Chore = "check" | "reap" | "info"

/** See the file's comment. */
export class SpaceCalls {
  readonly connection: Connection
  readonly keys: Keys
  readonly #operations: Readonly<Record<OperationsScript, Script>>
  readonly #readValues: Script
  readonly #maxKeyBytes: number
  #closed = false

  constructor(
    connection: Connection,
    keys: Keys,
    scripts: {
      readonly operations: Readonly<Record<OperationsScript, Script>>
      readonly readValues: Script
    },
    maxKeyBytes: number,
  ) {
    this.connection = connection
    this.keys = keys
    this.#operations = scripts.operations
    this.#readValues = scripts.readValues
    this.#maxKeyBytes = maxKeyBytes
  }

  /** Refuses everything from now on. */
  close(): void {
    this.#closed = true
  }

  /** Whether everything is refused. */
  get isClosed(): boolean {
    return this.#closed
  }

  /** Raises STORE_UNAVAILABLE after close. */
  enter(): void {
    if (this.#closed) throw storeClosed()
  }

  /** Runs a script. Raises REQUEST_ID_REUSED. */
  async call(scope: CallScope, namespace: Policy, call: SpaceCall): Promise<readonly Answer[]> {
    this.enter()
    const base = this.keys.space(scope.tenant, namespace, call.partition)
    const { idempotency } = scope
    const record =
      idempotency === undefined || call.repeatable === undefined
        ? undefined
        : { key: recordKey(base, idempotency, call.repeatable), hash: hex(idempotency.bodyHash) }
    const answer = await this.connection.run(
      scope,
      call.effect,
      call.script,
      [
        ...SPACE_SUFFIXES.map((suffix) => base + suffix),
        ...(record === undefined ? [] : [record.key]),
        ...call.keys.map((key) => `${base}data:${key}`),
      ],
      [
        this.connection.scriptTime(),
        record?.hash ?? "",
        RECORD_KEPT_MS,
        finite(namespace.maximumLength),
        finite(namespace.capacityEntries),
        finite(namespace.capacityBytes),
        namespace.refreshOnRead ? "1" : "0",
        namespace.refreshOnWrite ? "1" : "0",
        finite(this.#maxKeyBytes),
        call.keys.length,
        ...call.keys,
        ...call.args,
      ],
    )
    if (asText(answer[0]) === "reused") throw requestIdReused(idempotency?.requestId ?? "")
    return answer
  }

  /** Runs operations of one namespace and part in one script. Atomic: raises the first failure. */
  async operations<O extends Operation>(
    scope: CallScope,
    operations: readonly O[],
    how: { readonly effect: Effect; readonly repeatable: string | undefined; readonly atomic: boolean },
  ): Promise<readonly Outcome<O>[]> {
    this.enter()
    const [first] = operations
    if (first === undefined) return []
    const indexes = new Map<string, number>()
    for (const { key } of operations) if (!indexes.has(key)) indexes.set(key, indexes.size + 1)
    const answer = await this.call(scope, first.namespace, {
      script: this.#operations[scriptFor(operations)],
      effect: how.effect,
      repeatable: how.repeatable,
      partition: this.keys.partition(first.namespace, first.key),
      keys: [...indexes.keys()],
      args: [
        how.atomic ? "1" : "0",
        operations.some(({ kind }) => GROWING.has(kind)) ? "1" : "0",
        operations.length,
        ...operations.flatMap((operation) => encodeOperation(operation, indexes.get(operation.key) ?? 0)),
      ],
    })
    if (asText(answer[0]) === "failed") {
      throw atIndex(decodeFailure(asList(answer[2]).slice(1)), asNumber(answer[1]))
    }
    return operations.map((operation, index) => decodeOutcome(answer[index + 1], operation))
  }

  /** Reads values of one part by a script, which knows the versions of tags, each with its own end. */
  async values(
    scope: CallScope,
    namespace: Namespace,
    keys: readonly string[],
  ): Promise<readonly Outcome<GetOperation>[]> {
    this.enter()
    const operations = keys.map((key): GetOperation => ({ kind: "get", namespace, key }))
    if (changesByReading(namespace)) {
      return await this.operations(scope, operations, {
        effect: "read",
        repeatable: undefined,
        atomic: false,
      })
    }
    const base = this.keys.space(scope.tenant, namespace, this.keys.partition(namespace, keys[0] ?? ""))
    const names = [`${base}entries`, `${base}tags`]
    const args = [this.connection.scriptTime(), ...keys]
    const answer = await this.connection.run(scope, "read", this.#readValues, names, args)
    return operations.map((operation, index) => decodeOutcome(answer[index + 1], operation))
  }

  /** Does a chore on different keys; answers what the script says about each. */
  async chores(
    scope: CallScope,
    { namespace, partition }: Omit<SpaceName, "tenant">,
    chore: Chore,
    keys: readonly string[],
  ): Promise<readonly (readonly Answer[])[]> {
    if (keys.length === 0) return []
    const answer = await this.call(scope, upkeep(namespace), {
      script: this.#operations.values,
      effect: chore === "info" ? "read" : "write",
      repeatable: undefined,
      partition,
      keys,
      args: ["0", "0", keys.length, ...keys.flatMap((_, index) => [chore, index + 1])],
    })
    return answer.slice(1).map((each) => asList(each).slice(1))
  }
}

/** Whether a read moves a key in the order of use or restarts its life. */
export function changesByReading({ capacityEntries, capacityBytes, refreshOnRead }: Namespace): boolean {
  return refreshOnRead || Number.isFinite(capacityEntries) || Number.isFinite(capacityBytes)
}

/** What {@link Chore} info says about a live key. */
export function infoOf(key: string, [kind, revision, expires, bytes]: readonly Answer[]) {
  return {
    key,
    kind: asText(kind) as CacheKind,
    revision: BigInt(asText(revision)),
    expireTimeMs: asText(expires) === "" ? Number.POSITIVE_INFINITY : asNumber(expires),
    bytes: asNumber(bytes),
  }
}
