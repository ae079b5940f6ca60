/** The cache port on a server. One script per call and namespace does what the in-process engine does in one turn. */
import { globMatcher } from "../../domain/cache/glob.ts"
import type { CacheEntry, CacheKeyInfo, Namespace } from "../../domain/cache/model.ts"
import type {
  Operation,
  Outcome,
  ReadOperation,
  ResultOf,
  WriteOperation,
} from "../../domain/cache/operations.ts"
import type { CacheCapabilities, CacheStore, ScriptCall } from "../../domain/cache/ports.ts"
import { checkScriptCall } from "../../domain/cache/scripts.ts"
import { DomainError, limitExceeded, notFound } from "../../domain/kernel/errors.ts"
import type { JsonValue } from "../../domain/kernel/json.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { asList, asText } from "./answers.ts"
import type { Connection, Script } from "./connection.ts"
import { requestIdReused } from "./decode-result.ts"
import { finite } from "./encode-operation.ts"
import { isCompileError, storeClosed } from "./errors.ts"
import { hex, type Keys, RECORD_KEPT_MS, recordKey } from "./keys.ts"
import {
  INVALIDATE_TAGS_SCRIPT,
  KEEP_ANSWER_SCRIPT,
  OPERATIONS_SCRIPTS,
  type OperationsScript,
  registeredScript,
} from "./lua/index.ts"
import { READ_VALUES_SCRIPT } from "./lua/read-values.ts"
import { PlainReads, resultOf } from "./plain-reads.ts"
import { QuickCalls } from "./quick-calls.ts"
import { afterOthers, allChanges, scatter } from "./scatter.ts"
import { ANSWER_BYTES, infoOf, SpaceCalls } from "./space-calls.ts"
import { Spaces } from "./spaces.ts"
import { Sweeper } from "./sweeper.ts"
import { encodeValue } from "./values.ts"

const MAX_KEY_BYTES = 16 * 1_048_576
const PURGE_PART = 500
/** As the scripts count. */
const ENTRY_BYTES = 200

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
  /** Which namespaces are known. */
  readonly spaces: Spaces
  readonly #calls: SpaceCalls
  readonly #reads: PlainReads
  readonly #quick: QuickCalls
  readonly #sweeper: Sweeper
  readonly #tagScript: Script
  readonly #keepAnswer: Script
  readonly #scripts: ReadonlyMap<string, Script>

  constructor({ connection, keys, scripts, wrapScript }: RedisCacheOptions) {
    const script = (text: string) => connection.script(wrapScript(text))
    const store = {
      operations: operations(script),
      readValues: script(READ_VALUES_SCRIPT),
    }
    this.#calls = new SpaceCalls(connection, keys, store, MAX_KEY_BYTES)
    this.#reads = new PlainReads(this.#calls)
    this.#quick = new QuickCalls(connection, keys, script, MAX_KEY_BYTES)
    this.spaces = new Spaces(connection, keys)
    this.#sweeper = new Sweeper(this.#calls, this.spaces)
    this.#tagScript = script(INVALIDATE_TAGS_SCRIPT)
    this.#keepAnswer = script(KEEP_ANSWER_SCRIPT)
    this.#scripts = new Map(
      Object.entries(scripts).map(([name, source]) => [name, script(registeredScript(source))]),
    )
  }

  get(scope: CallScope, namespace: Namespace, key: string): Promise<CacheEntry | undefined> {
    return this.#calls.isClosed ? Promise.reject(storeClosed()) : this.#reads.one(scope, namespace, key)
  }

  async batchGet(
    scope: CallScope,
    namespace: Namespace,
    keys: readonly string[],
  ): Promise<readonly (CacheEntry | undefined)[]> {
    this.#calls.enter()
    if (keys.length === 0) return []
    if (!this.#calls.keys.isSpread) return await this.#reads.many(scope, namespace, keys)
    const entries = await scatter(
      keys,
      (key) => this.#calls.keys.partition(namespace, key),
      async (own) => await this.#reads.many(scope, namespace, own),
      (error) => {
        throw error
      },
    )
    checkSize(keys, entries)
    return entries
  }

  async read<O extends ReadOperation>(scope: CallScope, operation: O): Promise<ResultOf<O>> {
    this.#calls.enter()
    const quick = await this.#quick.run(scope, operation)
    if (quick !== undefined) return resultOf(quick)
    const [outcome] = await this.#calls.operations(scope, [operation], {
      effect: "read",
      repeatable: undefined,
      atomic: false,
    })
    return resultOf(outcome)
  }

  write<O extends WriteOperation>(scope: CallScope, operation: O): Promise<ResultOf<O>> {
    if (this.#calls.isClosed) return Promise.reject(storeClosed())
    const noting = this.#note(scope, operation.namespace, operation.key)
    return noting === undefined
      ? this.#write(scope, operation)
      : noting.then(() => this.#write(scope, operation))
  }

  async #write<O extends WriteOperation>(scope: CallScope, operation: O): Promise<ResultOf<O>> {
    const quick = await this.#quick.run(scope, operation)
    if (quick !== undefined) return resultOf(quick)
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
    const { keys } = this.#calls
    const partOf = ({ namespace, key }: Operation) =>
      keys.space(scope.tenant, namespace, keys.partition(namespace, key))
    const entities = operations.map(({ namespace, key }) => keys.entity(namespace, key))
    if (atomic) this.#refuseSpread("an atomic Execute", entities)
    return await scatter<Operation, Outcome>(
      operations,
      partOf,
      async (own) => {
        const [first] = own
        if (first !== undefined) await this.#note(scope, first.namespace, first.key)
        return await this.#calls.operations(scope, own, { effect: "write", repeatable: "execute", atomic })
      },
      partFailed,
    )
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
      const answers = await scatter(
        names,
        (key) => this.#calls.keys.partition(namespace, key),
        async (own) => {
          const partition = this.#calls.keys.partition(namespace, own[0] ?? "")
          return await this.#calls.chores(scope, { namespace: namespace.name, partition }, "info", own)
        },
        (error) => {
          throw error
        },
      )
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
    const parts = this.#calls.keys.partitions(namespace).map(async (partition) => {
      await this.#calls.call(scope, namespace, {
        script: this.#tagScript,
        effect: "write",
        repeatable: "invalidateTags",
        partition,
        keys: [],
        args: [tags.length, ...tags],
      })
    })
    await allChanges(parts)
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
    checkScriptCall(call)
    const { keys } = this.#calls
    const entities = call.keys.map((key) => keys.entity(namespace, key))
    this.#refuseSpread("a script", entities)
    await this.#note(scope, namespace, call.keys[0] ?? "")
    try {
      const answer = await this.#calls.call(scope, namespace, {
        script,
        effect: "write",
        repeatable: "runScript",
        partition: keys.partition(namespace, call.keys[0] ?? ""),
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

  #note(scope: CallScope, namespace: Namespace, key: string): Promise<void> | undefined {
    return this.spaces.note(scope, namespace, this.#calls.keys.partition(namespace, key))
  }

  /** Raises UNSUPPORTED_BY_ENGINE where keys name different entities, which may be on different servers. */
  #refuseSpread(what: string, entities: readonly (string | undefined)[]): void {
    if (entities.every((entity) => entity === entities[0])) return
    const { engine } = this.capabilities
    throw new DomainError(
      "UNSUPPORTED_BY_ENGINE",
      `${what} on a cluster takes keys of one entity: the same word in braces in each, as in "{agent-7}:plan", or none in any`,
      { metadata: { engine, capability: "atomic over entities" } },
    )
  }

  /** Names with the prefix after `after`, in the order of their bytes. */
  async #names(
    scope: CallScope,
    namespace: Namespace,
    prefix: string,
    after: string | undefined,
    count: number,
  ): Promise<readonly string[]> {
    const parts = await Promise.all(
      this.#calls.keys
        .partitions(namespace)
        .map(async (partition) => await this.#namesOf(scope, namespace, partition, prefix, after, count)),
    )
    if (parts.length === 1) return parts[0] ?? []
    return parts.flat().sort(byBytes).slice(0, count)
  }

  async #namesOf(
    scope: CallScope,
    namespace: Namespace,
    partition: number,
    prefix: string,
    after: string | undefined,
    count: number,
  ): Promise<readonly string[]> {
    this.#calls.enter()
    const base = this.#calls.keys.space(scope.tenant, namespace, partition)
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
    if (idempotency === undefined) return await this.#deleteAll(once, namespace, matches, async () => {})
    const { connection, keys } = this.#calls
    const record = recordKey(keys.space(scope.tenant, namespace), idempotency, operation)
    const hash = hex(idempotency.bodyHash)
    const known = await connection.send(scope, "read", "GET", [record])
    if (known !== null) {
      const [of, count] = asText(known).split(" ")
      if (of !== hash) throw requestIdReused(idempotency.requestId)
      return Number(count)
    }
    return await this.#deleteAll(once, namespace, matches, async (deleted) => {
      const args = [`${hash} ${deleted}`, RECORD_KEPT_MS]
      await connection.run(scope, "write", this.#keepAnswer, [record], args)
    })
  }

  /** Deletes a part at a time, so that the server answers others in between; `keep` remembers how many. */
  async #deleteAll(
    scope: CallScope,
    namespace: Namespace,
    matches: (key: string) => boolean,
    keep: (deleted: number) => Promise<void>,
  ): Promise<number> {
    let deleted = 0
    try {
      for (const partition of this.#calls.keys.partitions(namespace)) {
        for await (const some of this.#deletePart(scope, namespace, partition, matches)) deleted += some
      }
      await keep(deleted)
      return deleted
    } catch (error) {
      throw deleted > 0 ? afterOthers(error) : error
    }
  }

  async *#deletePart(
    scope: CallScope,
    namespace: Namespace,
    partition: number,
    matches: (key: string) => boolean,
  ): AsyncGenerator<number> {
    let after: string | undefined
    do {
      const names = await this.#namesOf(scope, namespace, partition, "", after, PURGE_PART)
      const operations = names
        .filter(matches)
        .map((key) => ({ kind: "delete", namespace, key, ifRevision: undefined }) as const)
      const how = { effect: "write", repeatable: undefined, atomic: false } as const
      const outcomes = await this.#calls.operations(scope, operations, how)
      yield outcomes.filter((outcome) => resultOf(outcome)).length
      after = names.length < PURGE_PART ? undefined : names.at(-1)
    } while (after !== undefined)
  }
}

function operations(script: (text: string) => Script): Readonly<Record<OperationsScript, Script>> {
  return {
    values: script(OPERATIONS_SCRIPTS.values),
    numbers: script(OPERATIONS_SCRIPTS.numbers),
    hashes: script(OPERATIONS_SCRIPTS.hashes),
    lists: script(OPERATIONS_SCRIPTS.lists),
    sortedSets: script(OPERATIONS_SCRIPTS.sortedSets),
    all: script(OPERATIONS_SCRIPTS.all),
  }
}

/** What each operation of a part gets that failed, while others did not. */
function partFailed(error: unknown): Outcome {
  if (error instanceof DomainError && error.reason !== "REQUEST_ID_REUSED") return { ok: false, error }
  throw error
}

/** The limit on an answer, which each part only knows of its own, holds over all parts. */
function checkSize(keys: readonly string[], entries: readonly (CacheEntry | undefined)[]): void {
  const bytes = entries.reduce((sum, entry, index) => {
    if (entry === undefined) return sum
    return sum + ENTRY_BYTES + Buffer.byteLength(keys[index] ?? "") + Buffer.byteLength(encodeValue(entry))
  }, 0)
  if (bytes > ANSWER_BYTES) throw limitExceeded("answer.bytes", bytes, ANSWER_BYTES)
}

function byBytes(left: string, right: string): number {
  return Buffer.compare(Buffer.from(left), Buffer.from(right))
}

function scriptFailed(script: string, why: string, cause: unknown): DomainError {
  return new DomainError("SCRIPT_FAILED", `script "${script}" failed and left no effect: ${why}`, {
    metadata: { script },
    cause,
  })
}
