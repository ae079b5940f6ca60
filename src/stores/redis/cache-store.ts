/** The cache port on a server. One script per call and namespace does what the in-process engine does in one turn. */
import { globMatcher } from "../../domain/cache/glob.ts"
import type { CacheEntry, CacheKeyInfo, Namespace } from "../../domain/cache/model.ts"
import type {
  GetOperation,
  Operation,
  Outcome,
  ReadOperation,
  ResultOf,
  WriteOperation,
} from "../../domain/cache/operations.ts"
import type { CacheCapabilities, CacheStore, ScriptCall } from "../../domain/cache/ports.ts"
import { DomainError, notFound } from "../../domain/kernel/errors.ts"
import type { JsonValue } from "../../domain/kernel/json.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { asList, asText, type Connection, type Script, scriptOf } from "./connection.ts"
import { requestIdReused } from "./decode-result.ts"
import { finite } from "./encode-operation.ts"
import { isCompileError } from "./errors.ts"
import { type Keys, recordKey } from "./keys.ts"
import { INVALIDATE_TAGS_SCRIPT, OPERATIONS_SCRIPT, registeredScript } from "./lua/index.ts"
import { READ_VALUES_SCRIPT } from "./lua/read-values.ts"
import { hex, infoOf, RECORD_KEPT_MS, SpaceCalls } from "./space-calls.ts"
import { Spaces } from "./spaces.ts"
import { Sweeper } from "./sweeper.ts"

const MAX_KEY_BYTES = 16 * 1_048_576
const PURGE_PART = 500

/** What the store is made of. */
export interface RedisCacheOptions {
  readonly connection: Connection
  readonly keys: Keys
  /** Lua text by the name that RunScript takes. */
  readonly scripts: Readonly<Record<string, string>>
  /** Changes every script before it is used; for tests that watch what scripts do. */
  readonly wrapScript: (text: string) => string
}

/** See the file's comment. */
export class RedisCacheStore implements CacheStore {
  readonly capabilities: CacheCapabilities = {
    engine: "redis",
    durable: true,
    shared: true,
    scripts: true,
    rollback: true,
    maximumKeyBytes: MAX_KEY_BYTES,
  }
  readonly #calls: SpaceCalls
  readonly #spaces: Spaces
  readonly #sweeper: Sweeper
  readonly #tagScript: Script
  readonly #scripts: ReadonlyMap<string, Script>

  constructor({ connection, keys, scripts, wrapScript }: RedisCacheOptions) {
    const script = (text: string) => scriptOf(wrapScript(text))
    const store = { operations: script(OPERATIONS_SCRIPT), readValues: script(READ_VALUES_SCRIPT) }
    this.#calls = new SpaceCalls(connection, keys, store, MAX_KEY_BYTES)
    this.#spaces = new Spaces(connection, keys)
    this.#sweeper = new Sweeper(this.#calls, this.#spaces)
    this.#tagScript = script(INVALIDATE_TAGS_SCRIPT)
    this.#scripts = new Map(
      Object.entries(scripts).map(([name, source]) => [name, script(registeredScript(source))]),
    )
  }

  async get(scope: CallScope, namespace: Namespace, key: string): Promise<CacheEntry | undefined> {
    const [outcome] = await this.#calls.values(scope, namespace, [key])
    return resultOf<GetOperation>(outcome)
  }

  async batchGet(
    scope: CallScope,
    namespace: Namespace,
    keys: readonly string[],
  ): Promise<readonly (CacheEntry | undefined)[]> {
    const outcomes = await this.#calls.values(scope, namespace, keys)
    return outcomes.map((outcome) => resultOf<GetOperation>(outcome))
  }

  async read<O extends ReadOperation>(scope: CallScope, operation: O): Promise<ResultOf<O>> {
    const [outcome] = await this.#calls.operations(scope, [operation], {
      effect: "read",
      repeatable: undefined,
      atomic: false,
    })
    return resultOf(outcome)
  }

  async write<O extends WriteOperation>(scope: CallScope, operation: O): Promise<ResultOf<O>> {
    await this.#note(scope, operation.namespace)
    const [outcome] = await this.#calls.operations(scope, [operation], {
      effect: "write",
      repeatable: operation.kind,
      atomic: false,
    })
    return resultOf(outcome)
  }

  async execute(
    scope: CallScope,
    operations: readonly Operation[],
    atomic: boolean,
  ): Promise<readonly Outcome[]> {
    this.#calls.enter()
    const outcomes: Outcome[] = []
    for (const [index, group] of byNamespace(operations).entries()) {
      const [first] = group
      if (first !== undefined) await this.#note(scope, first.namespace)
      const how = { effect: "write", repeatable: `execute ${index}`, atomic } as const
      outcomes.push(...(await this.#calls.operations(scope, group, how)))
    }
    return outcomes
  }

  async listKeys(
    scope: CallScope,
    namespace: Namespace,
    prefix: string,
    page: PageRequest,
  ): Promise<Page<CacheKeyInfo>> {
    const items: CacheKeyInfo[] = []
    let after = page.cursor?.[0]
    while (items.length <= page.size) {
      const names = await this.#names(scope, namespace, prefix, after, page.size + 1)
      const answers = await this.#calls.chores(scope, namespace.name, "info", names)
      for (const [index, key] of names.entries()) {
        const answer = answers[index] ?? []
        if (answer.length > 0) items.push(infoOf(key, answer))
      }
      after = names.at(-1)
      if (names.length <= page.size || after === undefined) break
    }
    const last = items[page.size - 1]
    const more = items.length > page.size && last !== undefined
    return { items: items.slice(0, page.size), next: more ? [last.key] : undefined }
  }

  async invalidateTags(scope: CallScope, namespace: Namespace, tags: readonly string[]): Promise<void> {
    await this.#calls.call(scope, namespace, {
      script: this.#tagScript,
      effect: "write",
      repeatable: "invalidateTags",
      keys: [],
      args: [tags.length, ...tags],
    })
  }

  async invalidatePattern(scope: CallScope, namespace: Namespace, pattern: string): Promise<number> {
    return await this.#purge(scope, namespace, globMatcher(pattern, "pattern"), "invalidatePattern")
  }

  async clearNamespace(scope: CallScope, namespace: Namespace): Promise<number> {
    return await this.#purge(scope, namespace, () => true, "clearNamespace")
  }

  async runScript(scope: CallScope, namespace: Namespace, call: ScriptCall): Promise<JsonValue> {
    this.#calls.enter()
    const script = this.#scripts.get(call.name)
    if (script === undefined) throw notFound("script", call.name)
    await this.#note(scope, namespace)
    try {
      const answer = await this.#calls.call(scope, namespace, {
        script,
        effect: "write",
        repeatable: "runScript",
        keys: [...new Set(call.keys)],
        args: [finite(namespace.defaultTtlMs), namespace.kind, call.args.length, ...call.args],
      })
      if (asText(answer[0]) === "script") throw scriptFailed(call.name, asText(answer[1]), undefined)
      return JSON.parse(asText(answer[1])) as JsonValue
    } catch (error) {
      if (error instanceof DomainError && isCompileError(error.cause)) {
        throw scriptFailed(call.name, "it is not valid Lua for this server", error.cause)
      }
      throw error
    }
  }

  async sweep(scope: CallScope, limit: number): Promise<number> {
    return await this.#sweeper.sweep(scope, limit)
  }

  async close(): Promise<void> {
    this.#calls.close()
  }

  async #note(scope: CallScope, namespace: Namespace): Promise<void> {
    this.#calls.enter()
    await this.#spaces.note(scope, namespace.name)
  }

  /** Names with the prefix after `after`, in the order of their bytes. */
  async #names(
    scope: CallScope,
    namespace: Namespace,
    prefix: string,
    after: string | undefined,
    count: number,
  ): Promise<readonly string[]> {
    this.#calls.enter()
    const base = this.#calls.keys.space(scope.tenant, namespace)
    const from = after === undefined ? `[${prefix}` : `(${after}`
    const answer = await this.#calls.connection.send(scope, "read", "ZRANGEBYLEX", [
      `${base}names`,
      from,
      "+",
      "LIMIT",
      0,
      count,
    ])
    const names = asList(answer).map(asText)
    const end = names.findIndex((name) => !name.startsWith(prefix))
    return end < 0 ? names : names.slice(0, end)
  }

  /** Deletes the keys that match; the record of the request_id is made when all is done, as half the work may be repeated. */
  async #purge(
    scope: CallScope,
    namespace: Namespace,
    matches: (key: string) => boolean,
    operation: string,
  ): Promise<number> {
    this.#calls.enter()
    const { idempotency, ...once } = scope
    if (idempotency === undefined) return await this.#deleteAll(once, namespace, matches)
    const { connection, keys } = this.#calls
    const record = recordKey(keys.space(scope.tenant, namespace), idempotency, operation)
    const hash = hex(idempotency.bodyHash)
    const known = await connection.send(scope, "read", "GET", [record])
    if (known !== null) {
      const [of, count] = asText(known).split(" ")
      if (of !== hash) throw requestIdReused(idempotency.requestId)
      return Number(count)
    }
    const deleted = await this.#deleteAll(once, namespace, matches)
    await connection.send(scope, "write", "SET", [record, `${hash} ${deleted}`, "PX", RECORD_KEPT_MS])
    return deleted
  }

  /** Deletes a part at a time, so that the server answers others in between. */
  async #deleteAll(
    scope: CallScope,
    namespace: Namespace,
    matches: (key: string) => boolean,
  ): Promise<number> {
    let deleted = 0
    let after: string | undefined
    do {
      const names = await this.#names(scope, namespace, "", after, PURGE_PART)
      const operations = names
        .filter(matches)
        .map((key) => ({ kind: "delete", namespace, key, ifRevision: undefined }) as const)
      const how = { effect: "write", repeatable: undefined, atomic: false } as const
      const outcomes = await this.#calls.operations(scope, operations, how)
      deleted += outcomes.filter((outcome) => resultOf(outcome)).length
      after = names.length < PURGE_PART ? undefined : names.at(-1)
    } while (after !== undefined)
    return deleted
  }
}

function resultOf<O extends Operation>(outcome: Outcome<O> | undefined): ResultOf<O> {
  if (outcome?.ok === true) return outcome.result
  throw outcome?.error ?? new RangeError("an operation without an outcome")
}

/** Runs of operations on one namespace, in order. */
function byNamespace(operations: readonly Operation[]): readonly (readonly Operation[])[] {
  const groups: Operation[][] = []
  for (const operation of operations) {
    const group = groups.at(-1)
    if (group?.[0]?.namespace.name === operation.namespace.name) group.push(operation)
    else groups.push([operation])
  }
  return groups
}

function scriptFailed(script: string, why: string, cause: unknown): DomainError {
  return new DomainError("SCRIPT_FAILED", `script "${script}" failed and left no effect: ${why}`, {
    metadata: { script },
    cause,
  })
}
