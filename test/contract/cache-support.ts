/** Shorthand for the cache suites: scopes, and operations with everything optional left out. */
import assert from "node:assert/strict"
import { before } from "node:test"
import type { CacheEntry, CacheValue, Content, Namespace } from "../../src/domain/cache/model.ts"
import { Namespaces } from "../../src/domain/cache/namespaces.ts"
import type { Operation } from "../../src/domain/cache/operations.ts"
import type { CacheStore } from "../../src/domain/cache/ports.ts"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"

/** An engine under test. */
export interface CacheHarness {
  readonly store: CacheStore
  /** A tenant that nobody has used. */
  freshTenant(): TenantId
  /** The time as the engine sees it; moves only here. */
  readonly clock: { now(): number; advance(ms: number): void }
}

const NAMESPACES = new Namespaces({
  plain: {},
  short: { defaultTtlMs: 1_000 },
  sliding: { defaultTtlMs: 1_000, refreshOnRead: true, refreshOnWrite: true },
  few: { capacityEntries: 3 },
  small: { capacityBytes: 2_097_152 },
  limited: { maximumLength: 3 },
})

/** Makes the engine before the tests of a suite, and gives its parts by name. */
export function prepared(make: () => Promise<CacheHarness>) {
  const state: { harness?: CacheHarness } = {}
  before(async () => {
    state.harness = await make()
  })
  const harness = (): CacheHarness => state.harness ?? assert.fail("not prepared")
  return {
    store: (): CacheStore => harness().store,
    fresh: (): CallScope => scopeOf(harness().freshTenant()),
    clock: () => harness().clock,
  }
}

/** The namespaces of the suites. */
export function space(name = "plain"): Namespace {
  return NAMESPACES.resolve(name)
}

/** A text as a value. */
export function text(value: string): CacheValue {
  return { content: { case: "text", value }, contentType: "" }
}

type Loose<O> = O extends Operation ? Partial<O> & Pick<O, "kind" | "key"> : never

const DEFAULTS = {
  ifRevision: undefined,
  expiration: undefined,
  keepExpiration: false,
  condition: "always",
  tags: [],
  contentType: "",
  refreshTtl: false,
  onlyIfAbsent: false,
  onlyIfPresent: false,
  maximumLength: 0,
  maximumItems: 1_000,
  count: 1,
  end: "tail",
  names: [],
  start: 0,
  stop: -1,
  by: { rank: { start: 0, stop: -1 } },
  reverse: false,
  offset: 0,
  limit: 1_000,
} as const

/** An operation with the defaults of its RPC. */
export function op<K extends Operation["kind"]>(
  operation: Loose<Extract<Operation, { kind: K }>> & { kind: K },
): Extract<Operation, { kind: K }> {
  return { namespace: space(), ...DEFAULTS, ...operation } as unknown as Extract<Operation, { kind: K }>
}

/** Writes a text. */
export async function put(
  store: CacheStore,
  scope: CallScope,
  key: string,
  value: string,
  namespace = space(),
) {
  return await store.write(scope, op({ kind: "set", key, ...text(value), namespace }))
}

/** The content under a key, undefined for a miss. */
export async function read(
  store: CacheStore,
  scope: CallScope,
  key: string,
  namespace = space(),
): Promise<Content["value"] | undefined> {
  const entry: CacheEntry | undefined = await store.get(scope, namespace, key)
  return entry?.content.value
}

/** A scope with a request_id; `body` stands for the rest of the request. */
export function repeatable(scope: CallScope, requestId: string, body = "same", method = "m"): CallScope {
  return { ...scope, idempotency: { method, requestId, bodyHash: new TextEncoder().encode(body) } }
}

/** The tenant's scope. */
export function scopeOf(tenant: TenantId): CallScope {
  return systemScope(tenant)
}

/** Asserts that `work` fails with a reason, at once or later; answers the failure. */
export async function fails(reason: Reason, work: () => unknown): Promise<DomainError> {
  try {
    await work()
  } catch (error) {
    assert.ok(error instanceof DomainError, `not a DomainError: ${String(error)}`)
    assert.equal(error.reason, reason)
    return error
  }
  return assert.fail(`did not fail with ${reason}`)
}
