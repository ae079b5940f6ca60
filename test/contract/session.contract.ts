/** What every session store must do. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { decodeBody, messageBatch, type NewMessage } from "../../src/domain/event/session-message.ts"
import {
  DEFAULT_SESSION_TTL_MS,
  type Session,
  type SessionDraft,
  type StoredMessage,
} from "../../src/domain/event/session-model.ts"
import {
  MAX_LIST_BYTES,
  SESSION_FILTER_FIELDS,
  type SessionQuery,
  type SessionStore,
} from "../../src/domain/event/session-store.ts"
import { parseFilter } from "../../src/domain/kernel/filter/index.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import { rejects } from "./event-support.ts"

/** A store under test. */
export interface SessionHarness {
  readonly store: SessionStore
  /** A tenant that nobody has used. */
  freshTenant(): TenantId
  /** The time as the store sees it; moves only here. */
  readonly clock: { now(): number; advance(ms: number): void }
}

type Get<T> = () => T

/** Registers the suite. */
export function sessionContract(make: () => Promise<SessionHarness>): void {
  describe("session store", () => {
    let harness: SessionHarness
    before(async () => {
      harness = await make()
    })
    const fresh = (): CallScope => systemScope(harness.freshTenant())
    const get = (): SessionHarness => harness
    living(get, fresh)
    speaking(get, fresh)
    weighing(get, fresh)
    listing(get, fresh)
    expiring(get, fresh)
  })
}

function draft(fields: Partial<SessionDraft> = {}): SessionDraft {
  return {
    sessionId: "s",
    agentId: "agent",
    userId: "user",
    title: "",
    metadata: {},
    state: "{}",
    expiry: { kind: "ttl", ttlMs: DEFAULT_SESSION_TTL_MS },
    ...fields,
  }
}

function said(text: string, fields: Partial<NewMessage> = {}): NewMessage {
  return {
    role: "user",
    content: [{ kind: "text", text }],
    toolCalls: [],
    toolCallId: "",
    name: "",
    ...fields,
  }
}

function say(
  store: SessionStore,
  scope: CallScope,
  id: string,
  texts: readonly string[],
  ifRevision?: bigint,
) {
  return store.append(
    scope,
    messageBatch(
      id,
      texts.map((text) => said(text)),
      ifRevision,
    ),
  )
}

async function heard(
  store: SessionStore,
  scope: CallScope,
  id: string,
  newestFirst = false,
  size = 100,
): Promise<StoredMessage[]> {
  const found: StoredMessage[] = []
  for (let cursor: readonly string[] | undefined, more = true; more; ) {
    const page = await store.messages(scope, id, newestFirst, { size, cursor })
    assert.ok(page.items.length <= size)
    found.push(...page.items)
    cursor = page.next
    more = cursor !== undefined
  }
  return found
}

function textOf({ body }: StoredMessage): string {
  const [part] = decodeBody(body).content
  return part?.kind === "text" ? part.text : ""
}

function withRequestId(scope: CallScope, method: string, requestId: string, body: number): CallScope {
  const bodyHash = new Uint8Array(32).fill(body)
  return { ...scope, idempotency: { method: `keelplane.v1.SessionService/${method}`, requestId, bodyHash } }
}

function living(get: Get<SessionHarness>, fresh: Get<CallScope>): void {
  it("keeps a session unchanged and answers it the same way from every method", async () => {
    const { store, clock } = get()
    const scope = fresh()
    const made = await store.create(
      scope,
      draft({
        title: "Tïtle \u{1f680}",
        metadata: { lang: "ts", n: 0.1, deep: [{ a: null }], "": "" },
        state: JSON.stringify({ nul: "\u0000", n: -0.5 }),
      }),
    )
    assert.equal(made.revision, 1n)
    assert.equal(made.messageRevision, 0n)
    assert.equal(made.status, "active")
    assert.equal(made.createdMs, clock.now())
    assert.equal(made.expireMs, clock.now() + DEFAULT_SESSION_TTL_MS)
    assert.deepEqual(await store.get(scope, "s"), made)
    assert.deepEqual((await store.list(scope, {}, { size: 5 })).items, [made])
  })

  it("refuses a taken id, and tells ids apart that differ only in case", async () => {
    const { store } = get()
    const scope = fresh()
    await store.create(scope, draft())
    await rejects(store.create(scope, draft()), "ALREADY_EXISTS")
    await store.create(scope, draft({ sessionId: "S", agentId: "other" }))
    assert.equal((await store.get(scope, "s")).agentId, "agent")
    await rejects(store.get(scope, "absent"), "NOT_FOUND")
  })

  it("never lets one tenant see or touch another's sessions", async () => {
    const { store } = get()
    const [mine, theirs] = [fresh(), fresh()]
    await store.create(mine, draft())
    await say(store, mine, "s", ["secret"])
    await rejects(store.get(theirs, "s"), "NOT_FOUND")
    await rejects(store.update(theirs, "s", { title: "x" }, undefined), "NOT_FOUND")
    await rejects(store.end(theirs, "s", "", undefined), "NOT_FOUND")
    await rejects(say(store, theirs, "s", ["x"]), "NOT_FOUND")
    await rejects(heard(store, theirs, "s"), "NOT_FOUND")
    assert.deepEqual((await store.list(theirs, {}, { size: 5 })).items, [])
    await store.create(theirs, draft())
    assert.deepEqual(await heard(store, theirs, "s"), [])
  })

  it("updates only what it is told, at the revision it is told", async () => {
    const { store, clock } = get()
    const scope = fresh()
    const made = await store.create(
      scope,
      draft({ title: "a", metadata: { a: 1 }, state: '{"x":{"y":1,"z":2}}' }),
    )
    clock.advance(10)
    const second = await store.update(scope, "s", { title: "b" }, 1n)
    assert.deepEqual(second, {
      ...made,
      title: "b",
      revision: 2n,
      updatedMs: clock.now(),
      activeMs: clock.now(),
      expireMs: clock.now() + DEFAULT_SESSION_TTL_MS,
    })
    const lost = await rejects(store.update(scope, "s", { title: "c" }, 1n), "REVISION_MISMATCH")
    assert.equal(lost.metadata.actual, "2")
    const third = await store.update(scope, "s", { statePatch: { x: { y: null, w: [1] } } }, undefined)
    assert.deepEqual(JSON.parse(third.state), { x: { z: 2, w: [1] } })
    const fourth = await store.update(scope, "s", { metadata: {}, state: "{}" }, 3n)
    assert.deepEqual(fourth.metadata, {})
    assert.equal(fourth.state, "{}")
    assert.deepEqual(await store.get(scope, "s"), fourth)
    const big = { statePatch: { big: "x".repeat(1_048_576) } }
    await rejects(store.update(scope, "s", big, undefined), "LIMIT_EXCEEDED")
    await rejects(store.update(scope, "absent", { title: "x" }, undefined), "NOT_FOUND")
  })

  it("lets exactly one of two writers on one revision win", async () => {
    const { store } = get()
    const scope = fresh()
    await store.create(scope, draft())
    const results = await Promise.allSettled(
      [1, 2].map((n) => store.update(scope, "s", { title: `${n}` }, 1n)),
    )
    assert.equal(results.filter(({ status }) => status === "fulfilled").length, 1)
    assert.equal((await store.get(scope, "s")).revision, 2n)
  })

  it("ends a session once; then it can be read and takes nothing more", async () => {
    const { store, clock } = get()
    const scope = fresh()
    await store.create(scope, draft())
    await say(store, scope, "s", ["one"])
    await rejects(store.end(scope, "s", "early", 7n), "REVISION_MISMATCH")
    const ended = await store.end(scope, "s", "done", 1n)
    assert.equal(ended.status, "ended")
    assert.equal(ended.endReason, "done")
    assert.equal(ended.endedMs, clock.now())
    clock.advance(5)
    assert.deepEqual(await store.end(scope, "s", "again", undefined), ended)
    await rejects(say(store, scope, "s", ["two"]), "SESSION_ENDED")
    await rejects(store.update(scope, "s", { state: "{}" }, undefined), "FAILED_PRECONDITION")
    assert.equal((await store.update(scope, "s", { title: "kept" }, undefined)).status, "ended")
    assert.deepEqual((await heard(store, scope, "s")).map(textOf), ["one"])
  })

  it("replays a request_id of every mutation and refuses it with another body", async () => {
    const { store } = get()
    const scope = fresh()
    const create = (body: number) => store.create(withRequestId(scope, "CreateSession", "r", body), draft())
    const made = await create(1)
    assert.deepEqual(await create(1), made)
    await rejects(create(2), "REQUEST_ID_REUSED")
    const update = (body: number) =>
      store.update(withRequestId(scope, "UpdateSession", "r", body), "s", { title: "t" }, 1n)
    const updated = await update(1)
    const append = (body: number) =>
      store.append(withRequestId(scope, "AppendMessages", "r", body), messageBatch("s", [said("m")], 0n))
    const appended = await append(1)
    const end = (body: number) => store.end(withRequestId(scope, "EndSession", "r", body), "s", "", undefined)
    const ended = await end(1)
    assert.deepEqual(await update(1), updated)
    assert.deepEqual(await append(1), appended)
    assert.deepEqual(await end(1), ended)
    await rejects(update(2), "REQUEST_ID_REUSED")
    await rejects(append(2), "REQUEST_ID_REUSED")
    assert.equal((await store.get(scope, "s")).messageRevision, 1n)
  })

  it("erases a session with its messages at once, and frees its id", async () => {
    const { store } = get()
    const [scope, other] = [fresh(), fresh()]
    await store.create(scope, draft())
    await say(store, scope, "s", ["secret"])
    assert.equal(await store.erase(other, "s"), false)
    assert.equal((await store.get(scope, "s")).messageRevision, 1n)
    assert.equal(await store.erase(scope, "s"), true)
    assert.equal(await store.erase(scope, "s"), false)
    await rejects(store.get(scope, "s"), "NOT_FOUND")
    await rejects(say(store, scope, "s", ["x"]), "NOT_FOUND")
    assert.deepEqual((await store.list(scope, { userId: "user" }, { size: 5 })).items, [])
    assert.equal((await store.create(scope, draft())).revision, 1n)
    assert.deepEqual(await heard(store, scope, "s"), [])
  })

  it("refuses calls whose scope has ended", async () => {
    const { store } = get()
    const scope = fresh()
    await store.create(scope, draft())
    await rejects(say(store, { ...scope, deadlineMs: 1 }, "s", ["x"]), "DEADLINE_EXCEEDED")
    const aborted = { ...scope, signal: AbortSignal.abort() }
    await rejects(store.update(aborted, "s", { title: "x" }, undefined), "CANCELLED")
    assert.equal((await store.get(scope, "s")).revision, 1n)
    assert.deepEqual(await heard(store, scope, "s"), [])
  })
}

function speaking(get: Get<SessionHarness>, fresh: Get<CallScope>): void {
  it("keeps messages unchanged, in order, with their tokens", async () => {
    const { store, clock } = get()
    const scope = fresh()
    await store.create(scope, draft())
    const messages: NewMessage[] = [
      said("\u0000 ünï \u{1f680}"),
      said("", { role: "assistant", content: [], toolCalls: [{ id: "c0", name: "now", arguments: {} }] }),
      said("", {
        role: "assistant",
        content: [
          { kind: "data", mimeType: "image/png", bytes: Uint8Array.of(0, 255, 10) },
          { kind: "data", mimeType: "image/png", bytes: new Uint8Array() },
          { kind: "uri", mimeType: "audio/ogg", uri: "https://example.com/a" },
          { kind: "json", value: { any: [null, { x: "\u0000" }] } },
        ],
        toolCalls: [
          { id: "c1", name: "search", arguments: { q: "x" } },
          { id: "c2", name: "now", arguments: undefined },
        ],
        name: "model",
        metadata: { stop: "tool" },
        tokens: { input: 1_000n, output: 20n },
      }),
      said("42", { role: "tool", toolCallId: "c1", tokens: { input: 0n, output: 5n } }),
    ]
    assert.throws(() => messageBatch("s", [said("x"), said("", { content: [] })], undefined), {
      reason: "INVALID_FIELD",
      metadata: { field: "messages[1].content" },
    })
    const appended = await store.append(scope, messageBatch("s", messages, 0n))
    assert.deepEqual(appended, {
      firstSequence: 1n,
      messageRevision: 4n,
      createdMs: clock.now(),
      expireMs: clock.now() + DEFAULT_SESSION_TTL_MS,
    })
    const kept = await heard(store, scope, "s")
    for (const [at, message] of messages.entries()) {
      const found = kept[at]
      assert.ok(found)
      assert.equal(found.sequence, BigInt(at + 1))
      assert.equal(found.createdMs, clock.now())
      const { role, tokens, ...content } = message
      assert.equal(found.role, role)
      assert.deepEqual(found.tokens, tokens)
      assert.deepEqual(
        JSON.parse(JSON.stringify(decodeBody(found.body))),
        JSON.parse(JSON.stringify(content)),
      )
    }
    const session = await store.get(scope, "s")
    assert.deepEqual(session.tokens, { input: 1_000n, output: 25n })
    assert.equal(session.revision, 1n)
  })

  it("appends only at the message revision it is told", async () => {
    const { store } = get()
    const scope = fresh()
    await store.create(scope, draft())
    await say(store, scope, "s", ["1", "2"], 0n)
    const lost = await rejects(say(store, scope, "s", ["x"], 1n), "REVISION_MISMATCH")
    assert.equal(lost.metadata.actual, "2")
    assert.equal((await say(store, scope, "s", ["3"], 2n)).messageRevision, 3n)
    await rejects(say(store, scope, "absent", ["x"]), "NOT_FOUND")
    assert.deepEqual((await heard(store, scope, "s")).map(textOf), ["1", "2", "3"])
  })

  it("appends concurrently without gaps or mixed batches, and lets one of 20 first appends win", async () => {
    const { store } = get()
    const scope = fresh()
    await Promise.all([1, 2, 3].map((n) => store.create(scope, draft({ sessionId: `s${n}` }))))
    const first = await Promise.allSettled(
      Array.from({ length: 20 }, () => say(store, scope, "s1", ["x"], 0n)),
    )
    assert.equal(first.filter(({ status }) => status === "fulfilled").length, 1)
    await Promise.all(
      Array.from({ length: 30 }, (_, n) => say(store, scope, `s${2 + (n % 2)}`, [`${n}a`, `${n}b`, `${n}c`])),
    )
    for (const id of ["s2", "s3"]) {
      const kept = await heard(store, scope, id)
      assert.deepEqual(
        kept.map(({ sequence }) => Number(sequence)),
        Array.from({ length: 45 }, (_, i) => i + 1),
      )
      for (let at = 0; at < 45; at += 3) {
        const batch = kept.slice(at, at + 3).map(textOf)
        assert.deepEqual(
          batch,
          ["a", "b", "c"].map((letter) => `${batch[0]?.slice(0, -1)}${letter}`),
        )
      }
    }
  })

  it("pages through messages in both directions, and by bytes", async () => {
    const { store } = get()
    const scope = fresh()
    await store.create(scope, draft())
    const texts = Array.from({ length: 10 }, (_, n) => `${n}`)
    await say(store, scope, "s", texts)
    assert.deepEqual((await heard(store, scope, "s", false, 3)).map(textOf), texts)
    assert.deepEqual((await heard(store, scope, "s", true, 5)).map(textOf), texts.toReversed())
    const last = await store.messages(scope, "s", true, { size: 3 })
    assert.deepEqual(last.items.map(textOf), ["9", "8", "7"])
    assert.equal(last.messageRevision, 10n)
    for (let n = 0; n < 4; n++) await say(store, scope, "s", ["x".repeat(900_000)])
    const cut = await store.messages(scope, "s", true, { size: 100 })
    assert.ok(cut.next !== undefined && cut.items.length * 900_000 <= MAX_LIST_BYTES + 900_000)
    assert.equal((await heard(store, scope, "s", true)).length, 14)
  })
}

function weighing(get: Get<SessionHarness>, fresh: Get<CallScope>): void {
  // Eleven bytes each on the wire, and two as text.
  const zeros = (count: number) => Array.from({ length: count }, () => 0)

  it("never holds more in a session than an answer can carry", async () => {
    const { store } = get()
    const scope = fresh()
    const state = JSON.stringify({ zeros: zeros(100_000) })
    await rejects(store.create(scope, draft({ state })), "LIMIT_EXCEEDED")
    await store.create(scope, draft())
    await store.update(scope, "s", { statePatch: { a: zeros(45_000) } }, undefined)
    await store.update(scope, "s", { statePatch: { b: zeros(45_000) } }, undefined)
    const kept = await store.get(scope, "s")
    await rejects(store.update(scope, "s", { statePatch: { c: zeros(10_000) } }, undefined), "LIMIT_EXCEEDED")
    await rejects(store.update(scope, "s", { metadata: { c: zeros(10_000) } }, undefined), "LIMIT_EXCEEDED")
    await rejects(store.update(scope, "s", { state }, undefined), "LIMIT_EXCEEDED")
    assert.deepEqual(await store.get(scope, "s"), kept)
    await store.update(scope, "s", { statePatch: { a: null, c: zeros(10_000) } }, undefined)
  })

  it("cuts lists by what their items are on the wire", async () => {
    const { store } = get()
    const scope = fresh()
    const state = JSON.stringify({ zeros: zeros(90_000) })
    for (const sessionId of ["a", "b", "c", "d", "e"]) await store.create(scope, draft({ sessionId, state }))
    const seen: string[] = []
    for (let cursor: readonly string[] | undefined, more = true; more; more = cursor !== undefined) {
      const page = await store.list(scope, {}, { size: 100, cursor })
      assert.ok(page.items.length > 0 && page.items.length <= 3, `${page.items.length} sessions`)
      seen.push(...page.items.map(({ sessionId }) => sessionId))
      cursor = page.next
    }
    assert.deepEqual(seen.toSorted(), ["a", "b", "c", "d", "e"])

    const large = said("", { content: [{ kind: "json", value: { zeros: zeros(90_000) } }] })
    assert.throws(() => messageBatch("a", [large, large], undefined), { reason: "LIMIT_EXCEEDED" })
    for (let n = 0; n < 5; n++) await store.append(scope, messageBatch("a", [large], undefined))
    for (const newestFirst of [true, false]) {
      const page = await store.messages(scope, "a", newestFirst, { size: 100 })
      assert.ok(page.next !== undefined && page.items.length <= 3, `${page.items.length} messages`)
      assert.equal((await heard(store, scope, "a", newestFirst)).length, 5)
    }
  })
}

function listing(get: Get<SessionHarness>, fresh: Get<CallScope>): void {
  it("lists by agent, user, status and filter, newest first, page by page", async () => {
    const { store, clock } = get()
    const scope = fresh()
    for (let n = 0; n < 9; n++) {
      if (n % 2 === 0) clock.advance(1)
      const fields = { agentId: `a${n % 2}`, userId: `u${n % 3}`, metadata: { n } }
      await store.create(scope, draft({ sessionId: `s${n}`, ...fields }))
    }
    await store.end(scope, "s4", "done", undefined)
    const list = async (
      query: Omit<SessionQuery, "filter"> & { filter?: string },
      size = 2,
    ): Promise<string> => {
      const found: Session[] = []
      const filter = parseFilter(query.filter ?? "", SESSION_FILTER_FIELDS)
      for (let cursor: readonly string[] | undefined, more = true; more; ) {
        const page = await store.list(scope, { ...query, filter }, { size, cursor })
        assert.ok(page.items.length <= size)
        found.push(...page.items)
        cursor = page.next
        more = cursor !== undefined
      }
      return found.map(({ sessionId }) => sessionId.slice(1)).join("")
    }
    assert.equal(await list({}), "876543210")
    assert.equal(await list({}, 9), "876543210")
    assert.equal(await list({ agentId: "a1" }), "7531")
    assert.equal(await list({ userId: "u0" }), "630")
    assert.equal(await list({ agentId: "a0", userId: "u0" }), "60")
    assert.equal(await list({ status: "ended" }), "4")
    assert.equal(await list({ status: "active", agentId: "a0" }), "8620")
    assert.equal(await list({ filter: "metadata.n >= 3 AND metadata.n < 6" }), "543")
    assert.equal(await list({ filter: 'status = "ended" OR session_id = "s1"' }), "41")
    assert.equal(await list({ filter: `create_time < "${new Date(clock.now()).toISOString()}"` }), "76543210")
    assert.equal(await list({ agentId: "A0" }), "")
  })
}

function expiring(get: Get<SessionHarness>, fresh: Get<CallScope>): void {
  it("forgets a session at its time, swept or not, and frees its id", async () => {
    const { store, clock } = get()
    const scope = fresh()
    await store.create(scope, draft({ expiry: { kind: "ttl", ttlMs: 1_000 } }))
    await store.create(scope, draft({ sessionId: "other" }))
    clock.advance(999)
    await say(store, scope, "s", ["keeps it alive"])
    clock.advance(999)
    assert.equal((await store.get(scope, "s")).messageRevision, 1n)
    clock.advance(1)
    const check = async (): Promise<void> => {
      await rejects(store.get(scope, "s"), "NOT_FOUND")
      await rejects(store.update(scope, "s", { title: "x" }, undefined), "NOT_FOUND")
      await rejects(store.end(scope, "s", "", undefined), "NOT_FOUND")
      await rejects(say(store, scope, "s", ["x"]), "NOT_FOUND")
      await rejects(heard(store, scope, "s"), "NOT_FOUND")
      assert.deepEqual(
        (await store.list(scope, {}, { size: 9 })).items.map(({ sessionId }) => sessionId),
        ["other"],
      )
    }
    await check()
    const again = await store.create(scope, draft({ expiry: { kind: "ttl", ttlMs: 1_000 } }))
    assert.equal(again.revision, 1n)
    assert.deepEqual(await heard(store, scope, "s"), [])
    await say(store, scope, "s", ["a", "b", "c"])
    clock.advance(1_000)
    await check()
    while ((await store.sweep(systemScope(), 2)) > 0) await check()
    await check()
  })

  it("keeps a fixed expiry whatever happens, until it is changed", async () => {
    const { store, clock } = get()
    const scope = fresh()
    const past = draft({ expiry: { kind: "at", expireMs: clock.now() } })
    await rejects(store.create(scope, past), "INVALID_FIELD")
    const expireMs = clock.now() + 1_000
    await store.create(scope, draft({ expiry: { kind: "at", expireMs } }))
    clock.advance(500)
    assert.equal((await say(store, scope, "s", ["x"])).expireMs, expireMs)
    assert.equal((await store.update(scope, "s", { title: "x" }, undefined)).expireMs, expireMs)
    const longer = await store.update(scope, "s", { expiry: { kind: "ttl", ttlMs: 9_000 } }, undefined)
    assert.equal(longer.expireMs, clock.now() + 9_000)
    clock.advance(8_999)
    await store.get(scope, "s")
    clock.advance(1)
    await rejects(store.get(scope, "s"), "NOT_FOUND")
  })
}
