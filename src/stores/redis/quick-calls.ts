/** The commonest operations by scripts of their own: see ./lua/quick. Each gives up where it meets more than it can do. */
import type { Expiration, Namespace } from "../../domain/cache/model.ts"
import type {
  HashGetOperation,
  HashSetOperation,
  IncrementOperation,
  KeyState,
  Operation,
  Outcome,
  ResultOf,
  SetOperation,
} from "../../domain/cache/operations.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type Argument, asList, asText } from "./answers.ts"
import type { Connection, Script } from "./connection.ts"
import { decodeOutcome, requestIdReused } from "./decode-result.ts"
import { finite, moment } from "./encode-operation.ts"
import { hex, type Keys, RECORD_KEPT_MS, recordKey, type SpaceKeys } from "./keys.ts"
import { ADD_WHOLE_SCRIPT, READ_FIELDS_SCRIPT, SET_FIELDS_SCRIPT, SET_VALUE_SCRIPT } from "./lua/quick.ts"
import { Preformed } from "./packet.ts"
import { encodeValue, numeric } from "./values.ts"

/** What all these writes say. */
interface Write {
  readonly expiration: Expiration
  readonly restart: boolean
  readonly rest: readonly Argument[]
}

const NO_HASH = new Preformed([""])

/** See the file's comment. */
export class QuickCalls {
  readonly #connection: Connection
  readonly #keys: Keys
  /** What all writes are told: the most bytes of a key, how long to keep records, and whether to restart the time to live. */
  readonly #restarting: Preformed
  readonly #keeping: Preformed
  readonly #setValue: Script
  readonly #addWhole: Script
  readonly #setFields: Script
  readonly #readFields: Script

  constructor(connection: Connection, keys: Keys, script: (text: string) => Script, maxKeyBytes: number) {
    this.#connection = connection
    this.#keys = keys
    const limits = [String(maxKeyBytes), String(RECORD_KEPT_MS)] as const
    this.#restarting = new Preformed([...limits, "1"])
    this.#keeping = new Preformed([...limits, "0"])
    this.#setValue = script(SET_VALUE_SCRIPT)
    this.#addWhole = script(ADD_WHOLE_SCRIPT)
    this.#setFields = script(SET_FIELDS_SCRIPT)
    this.#readFields = script(READ_FIELDS_SCRIPT)
  }

  /** Runs the operation; undefined, at once or later, where nothing was done, as it needs the store's full script. */
  run<O extends Operation>(scope: CallScope, operation: O): Promise<Outcome<O> | undefined> | undefined {
    const { capacityEntries, capacityBytes } = operation.namespace
    if (Number.isFinite(capacityEntries) || Number.isFinite(capacityBytes)) return undefined
    // The compiler does not follow the kind to the type of the answer.
    return this.#byKind(scope, operation) as Promise<Outcome<O> | undefined> | undefined
  }

  #byKind(scope: CallScope, operation: Operation): Promise<Outcome | undefined> | undefined {
    switch (operation.kind) {
      case "set":
        return this.#set(scope, operation)
      case "increment":
        return this.#increment(scope, operation)
      case "hashSet":
        return this.#hashSet(scope, operation)
      case "hashGet":
        return this.#hashGet(scope, operation)
      default:
        return undefined
    }
  }

  #set(scope: CallScope, operation: SetOperation): Promise<Outcome | undefined> | undefined {
    const { tags, condition, ifRevision, keepExpiration, expiration } = operation
    if (tags.length > 0 || condition !== "always" || ifRevision !== undefined || keepExpiration)
      return undefined
    const rest = [encodeValue(operation)]
    return this.#write(
      scope,
      this.#setValue,
      operation,
      { expiration, restart: true, rest },
      ([, revision, end]) => ({
        applied: true,
        ...state(revision, end),
      }),
    )
  }

  #increment(scope: CallScope, operation: IncrementOperation): Promise<Outcome | undefined> | undefined {
    const { addition, expiration, refreshTtl, namespace } = operation
    const { minimum, maximum } = addition
    if (addition.case !== "integer" || minimum !== undefined || maximum !== undefined) return undefined
    const rest = [String(addition.delta), String(addition.initial)]
    const restart = refreshTtl || namespace.refreshOnWrite
    return this.#write(
      scope,
      this.#addWhole,
      operation,
      { expiration, restart, rest },
      ([, , sum = "", revision, end]) => ({
        applied: true,
        sum: numeric("i", sum),
        ...state(revision, end),
      }),
    )
  }

  #hashSet(scope: CallScope, operation: HashSetOperation): Promise<Outcome | undefined> | undefined {
    const { fields, onlyIfAbsent, ifRevision, expiration, refreshTtl, namespace } = operation
    if (onlyIfAbsent || ifRevision !== undefined) return undefined
    if (fields.length > 1 && new Set(fields.map(({ name }) => name)).size < fields.length) return undefined
    const named = fields.flatMap(({ name, value }) => [name, encodeValue(value)])
    const rest = [finite(namespace.maximumLength), ...named]
    const restart = refreshTtl || namespace.refreshOnWrite
    return this.#write(
      scope,
      this.#setFields,
      operation,
      { expiration, restart, rest },
      ([revision, end, created, length]) => ({
        ...state(revision, end),
        created: Number(created),
        length: Number(length),
      }),
    )
  }

  async #hashGet(scope: CallScope, operation: HashGetOperation): Promise<Outcome | undefined> {
    const { namespace, key, names } = operation
    const { base } = this.#space(scope, namespace, key)
    const answer = await this.#connection.run(
      scope,
      "read",
      this.#readFields,
      [`${base}entries`, `${base}expiry`, `${base}data:${key}`],
      [this.#connection.scriptTime(), key, namespace.refreshOnRead ? "1" : "0", ...names],
    )
    return asText(answer[0]) === "slow" ? undefined : decodeOutcome(answer[1], operation)
  }

  async #write<O extends SetOperation | IncrementOperation | HashSetOperation>(
    scope: CallScope,
    script: Script,
    operation: O,
    { expiration, restart, rest }: Write,
    decode: (words: readonly string[]) => ResultOf<O>,
  ): Promise<Outcome | undefined> {
    const { namespace, key, kind } = operation
    const { base, written } = this.#space(scope, namespace, key)
    const { idempotency } = scope
    const record = idempotency === undefined ? [] : [recordKey(base, idempotency, kind)]
    const answer = await this.#connection.runs(scope, "write", script, 5 + record.length, [
      written,
      `${base}data:${key}`,
      ...record,
      this.#connection.scriptTime(),
      key,
      ...moment(expiration, namespace),
      restart ? this.#restarting : this.#keeping,
      idempotency === undefined ? NO_HASH : hex(idempotency.bodyHash),
      ...rest,
    ])
    if (Buffer.isBuffer(answer)) {
      // The compiler does not follow the kind to the type of the answer.
      return { ok: true, result: decode(answer.toString("latin1").split(" ")) } as Outcome
    }
    const [word, known] = asList(answer)
    if (asText(word) === "slow") return undefined
    if (asText(word) === "reused") throw requestIdReused(idempotency?.requestId ?? "")
    // What a record says.
    return decodeOutcome(known, operation)
  }

  #space(scope: CallScope, namespace: Namespace, key: string): SpaceKeys {
    return this.#keys.spaceKeys(scope.tenant, namespace, this.#keys.partition(namespace, key))
  }
}

/** Revision and moment of expiry, empty for none. */
function state(revision = "", end = ""): KeyState {
  return { revision: BigInt(revision), expireTimeMs: end === "" ? Number.POSITIVE_INFINITY : Number(end) }
}
