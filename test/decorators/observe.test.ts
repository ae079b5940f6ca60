import assert from "node:assert/strict"
import { test } from "node:test"
import { Namespaces } from "../../src/domain/cache/namespaces.ts"
import { CACHE_STORE_OPERATIONS } from "../../src/domain/cache/ports.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, DEFAULT_TENANT, systemScope } from "../../src/domain/kernel/scope.ts"
import { observe, type PortObserver } from "../../src/stores/decorators/observe.ts"
import { wrapPort } from "../../src/stores/decorators/wrap.ts"
import { createInProcessEngines } from "../../src/stores/inprocess/index.ts"

interface Seen {
  readonly operation: string
  readonly reason: string | undefined
  readonly spanned: boolean
}

function recorder(): { readonly observer: PortObserver; readonly seen: Seen[]; readonly spans: string[] } {
  const seen: Seen[] = []
  const spans: string[] = []
  const observer: PortObserver = {
    operation: (store, operation) => ({
      start: () => {
        spans.push(`start ${store} ${operation}`)
        return { end: () => {} }
      },
      end: (durationMs, reason, span) => {
        assert.ok(durationMs >= 0)
        seen.push({ operation, reason, spanned: span !== undefined })
      },
    }),
  }
  return { observer, seen, spans }
}

const scope = systemScope(DEFAULT_TENANT)

test("what the in-process cache answers at once is answered at once", async () => {
  const { observer, seen } = recorder()
  const { store } = createInProcessEngines()
  const observed = wrapPort(store, CACHE_STORE_OPERATIONS, observe("cache", "entries", observer))
  const namespace = new Namespaces().resolve("")
  assert.equal(observed.get(scope, namespace, "absent") instanceof Promise, false)
  assert.deepEqual(
    seen.map(({ operation }) => operation),
    ["entries.get"],
  )
  assert.deepEqual(observed.capabilities, store.capabilities)
  await observed.close()
})

test("promises, throws and streams are measured with their reason", async () => {
  const { observer, seen } = recorder()
  const port = {
    resolves: async (_scope: CallScope) => 1,
    rejects: async (_scope: CallScope) => {
      throw new DomainError("NOT_FOUND", "x")
    },
    throws: (_scope: CallScope) => {
      throw new TypeError("x")
    },
    stream: async function* (_scope: CallScope) {
      yield 1
      throw new DomainError("SLOW_CONSUMER", "x")
    },
    plain: () => 5,
  }
  const kinds = {
    resolves: "read",
    rejects: "read",
    throws: "write",
    stream: "stream",
    plain: "plain",
  } as const
  const observed = wrapPort(port, kinds, observe("s", "p", observer))
  assert.equal(await observed.resolves(scope), 1)
  await assert.rejects(observed.rejects(scope), { reason: "NOT_FOUND" })
  assert.throws(() => observed.throws(scope), TypeError)
  await assert.rejects(Array.fromAsync(observed.stream(scope)), { reason: "SLOW_CONSUMER" })
  assert.equal(observed.plain(), 5)
  assert.deepEqual(
    seen.map(({ operation, reason }) => [operation, reason]),
    [
      ["p.resolves", undefined],
      ["p.rejects", "NOT_FOUND"],
      ["p.throws", "INTERNAL"],
      ["p.stream", "SLOW_CONSUMER"],
    ],
  )
})

test("only a traced call has a span", async () => {
  const { observer, spans } = recorder()
  const observed = wrapPort(
    { read: async (_scope: CallScope) => 1 },
    { read: "read" },
    observe("s", "p", observer),
  )
  await observed.read(scope)
  assert.deepEqual(spans, [])
  await observed.read({ ...scope, trace: { traceparent: "" } })
  assert.deepEqual(spans, ["start s p.read"])
})

test("arguments beyond the scope arrive, all of them", async () => {
  const { observer } = recorder()
  const port = { many: (_scope: CallScope, ...rest: number[]) => rest }
  const observed = wrapPort(port, { many: "read" }, observe("s", "p", observer))
  assert.deepEqual(observed.many(scope, 1, 2, 3, 4, 5), [1, 2, 3, 4, 5])
})
