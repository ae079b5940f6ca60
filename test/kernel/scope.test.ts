import assert from "node:assert/strict"
import { test } from "node:test"
import {
  type CallScope,
  DEFAULT_TENANT,
  PLATFORM_TENANT,
  scopeWith,
  systemScope,
} from "../../src/domain/kernel/scope.ts"
import { endedScope } from "../../src/domain/kernel/wake-ups.ts"

/** A scope as the edge hands it out: most of it is made when it is asked for. */
class LazyScope implements CallScope {
  readonly tenant = DEFAULT_TENANT
  readonly deadlineMs = 7
  made = 0
  readonly #controller = new AbortController()

  get actor(): string {
    return "key:1"
  }

  get signal(): AbortSignal {
    this.made += 1
    return this.#controller.signal
  }
}

test("a scope with other values keeps what is made on demand, and does not make it before", () => {
  const lazy = new LazyScope()
  const other = scopeWith(lazy, { deadlineMs: 9, tenant: PLATFORM_TENANT })
  assert.equal(lazy.made, 0)
  assert.deepEqual(
    [other.tenant, other.actor, other.deadlineMs, other.trace],
    [PLATFORM_TENANT, "key:1", 9, undefined],
  )
  assert.equal(other.signal, lazy.signal)
  const idempotency = { method: "M", requestId: "r", bodyHash: Uint8Array.of(1) }
  const named = scopeWith(other, { idempotency })
  assert.equal(named.idempotency, idempotency)
  assert.equal(scopeWith(named, { idempotency: undefined }).idempotency, undefined)
  const own = new AbortController().signal
  assert.equal(scopeWith(named, { signal: own }).signal, own)
})

test("a call that nobody cancelled has met its deadline, even where its timer was a moment early", () => {
  const soon = { ...systemScope(), deadlineMs: Date.now() + 60_000 }
  assert.equal(endedScope(soon).reason, "DEADLINE_EXCEEDED")
  assert.equal(endedScope({ ...soon, signal: AbortSignal.abort() }).reason, "CANCELLED")
})
