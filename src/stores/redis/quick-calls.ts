/** The commonest operations by scripts of their own: see ./lua/quick. Each gives up where it meets more than it can do. */
import type { Expiration, Namespace } from "../../domain/cache/model.ts"
import type {
  HashGetOperation,
  HashSetOperation,
  IncrementOperation,
  Operation,
  Outcome,
  SetOperation,
} from "../../domain/cache/operations.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { type Argument, asText } from "./answers.ts"
import type { Connection, Script } from "./connection.ts"
import { decodeOutcome, requestIdReused } from "./decode-result.ts"
import { finite, moment } from "./encode-operation.ts"
import { hex, type Keys, RECORD_KEPT_MS, recordKey } from "./keys.ts"
import { ADD_WHOLE_SCRIPT, READ_FIELDS_SCRIPT, SET_FIELDS_SCRIPT, SET_VALUE_SCRIPT } from "./lua/quick.ts"
import { encodeValue } from "./values.ts"

/** What all these writes say. */
interface Write {
  readonly expiration: Expiration
  readonly restart: boolean
  readonly rest: readonly Argument[]
}

/** See the file's comment. */
export class QuickCalls {
  readonly #connection: Connection
  readonly #keys: Keys
  readonly #maxKeyBytes: number
  readonly #setValue: Script
  readonly #addWhole: Script
  readonly #setFields: Script
  readonly #readFields: Script

  constructor(connection: Connection, keys: Keys, script: (text: string) => Script, maxKeyBytes: number) {
    this.#connection = connection
    this.#keys = keys
    this.#maxKeyBytes = maxKeyBytes
    this.#setValue = script(SET_VALUE_SCRIPT)
    this.#addWhole = script(ADD_WHOLE_SCRIPT)
    this.#setFields = script(SET_FIELDS_SCRIPT)
    this.#readFields = script(READ_FIELDS_SCRIPT)
  }

  /** Runs the operation; undefined where nothing was done, as it needs the store's full script. */
  async run<O extends Operation>(scope: CallScope, operation: O): Promise<Outcome<O> | undefined> {
    const { capacityEntries, capacityBytes } = operation.namespace
    if (Number.isFinite(capacityEntries) || Number.isFinite(capacityBytes)) return undefined
    // The compiler does not follow the kind to the type of the answer.
    return (await this.#byKind(scope, operation)) as Outcome<O> | undefined
  }

  async #byKind(scope: CallScope, operation: Operation): Promise<Outcome | undefined> {
    switch (operation.kind) {
      case "set":
        return await this.#set(scope, operation)
      case "increment":
        return await this.#increment(scope, operation)
      case "hashSet":
        return await this.#hashSet(scope, operation)
      case "hashGet":
        return await this.#hashGet(scope, operation)
      default:
        return undefined
    }
  }

  async #set(scope: CallScope, operation: SetOperation): Promise<Outcome | undefined> {
    const { tags, condition, ifRevision, keepExpiration, expiration } = operation
    if (tags.length > 0 || condition !== "always" || ifRevision !== undefined || keepExpiration)
      return undefined
    const rest = [encodeValue(operation)]
    return await this.#write(scope, this.#setValue, operation, { expiration, restart: true, rest })
  }

  async #increment(scope: CallScope, operation: IncrementOperation): Promise<Outcome | undefined> {
    const { addition, expiration, refreshTtl, namespace } = operation
    const { minimum, maximum } = addition
    if (addition.case !== "integer" || minimum !== undefined || maximum !== undefined) return undefined
    const rest = [String(addition.delta), String(addition.initial)]
    const restart = refreshTtl || namespace.refreshOnWrite
    return await this.#write(scope, this.#addWhole, operation, { expiration, restart, rest })
  }

  async #hashSet(scope: CallScope, operation: HashSetOperation): Promise<Outcome | undefined> {
    const { fields, onlyIfAbsent, ifRevision, expiration, refreshTtl, namespace } = operation
    if (onlyIfAbsent || ifRevision !== undefined) return undefined
    if (fields.length > 1 && new Set(fields.map(({ name }) => name)).size < fields.length) return undefined
    const named = fields.flatMap(({ name, value }) => [name, encodeValue(value)])
    const rest = [finite(namespace.maximumLength), ...named]
    const restart = refreshTtl || namespace.refreshOnWrite
    return await this.#write(scope, this.#setFields, operation, { expiration, restart, rest })
  }

  async #hashGet(scope: CallScope, operation: HashGetOperation): Promise<Outcome | undefined> {
    const { namespace, key, names } = operation
    const base = this.#base(scope, namespace, key)
    const answer = await this.#connection.run(
      scope,
      "read",
      this.#readFields,
      [`${base}entries`, `${base}expiry`, `${base}data:${key}`],
      [this.#connection.scriptTime(), key, namespace.refreshOnRead ? "1" : "0", ...names],
    )
    return asText(answer[0]) === "slow" ? undefined : decodeOutcome(answer[1], operation)
  }

  async #write(
    scope: CallScope,
    script: Script,
    operation: SetOperation | IncrementOperation | HashSetOperation,
    { expiration, restart, rest }: Write,
  ): Promise<Outcome | undefined> {
    const { namespace, key, kind } = operation
    const base = this.#base(scope, namespace, key)
    const { idempotency } = scope
    const keys = [`${base}entries`, `${base}names`, `${base}expiry`, `${base}counters`, `${base}data:${key}`]
    if (idempotency !== undefined) keys.push(recordKey(base, idempotency, kind))
    const answer = await this.#connection.run(scope, "write", script, keys, [
      this.#connection.scriptTime(),
      key,
      ...moment(expiration, namespace),
      this.#maxKeyBytes,
      restart ? "1" : "0",
      idempotency === undefined ? "" : hex(idempotency.bodyHash),
      RECORD_KEPT_MS,
      ...rest,
    ])
    const word = asText(answer[0])
    if (word === "slow") return undefined
    if (word === "reused") throw requestIdReused(idempotency?.requestId ?? "")
    return decodeOutcome(answer[1], operation)
  }

  #base(scope: CallScope, namespace: Namespace, key: string): string {
    return this.#keys.space(scope.tenant, namespace, this.#keys.partition(namespace, key))
  }
}
