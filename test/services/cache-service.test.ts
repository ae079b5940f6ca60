/** CacheService and RateLimitService at the level of messages, over the in-process engines and without a transport. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { create, type DescMethod, type MessageInitShape, type MessageShape } from "@bufbuild/protobuf"
import { durationFromMs, ValueSchema } from "@bufbuild/protobuf/wkt"
import { Namespaces } from "../../src/domain/cache/namespaces.ts"
import { BUILT_IN_SCRIPTS } from "../../src/domain/cache/scripts.ts"
import { DEFAULT_TENANT, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import { CacheService, ListEnd, SetCondition } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { RateLimitAlgorithm, RateLimitService } from "../../src/gen/keelplane/v1/rate_limit_service_pb.ts"
import type { CallContext, Service } from "../../src/rpc/handler.ts"
import { createCacheService } from "../../src/services/cache-service.ts"
import { Pages } from "../../src/services/paging.ts"
import { createRateLimitService } from "../../src/services/rate-limit-service.ts"
import { createInProcessEngines } from "../../src/stores/inprocess/index.ts"
import { LuaScripts } from "../../src/stores/inprocess/lua-scripts.ts"
import { fails } from "../contract/cache-support.ts"
import { ManualClock } from "../support/manual-clock.ts"

function context(tenant: TenantId = DEFAULT_TENANT, signal?: AbortSignal): CallContext {
  return {
    ...systemScope(tenant, signal),
    method: "keelplane.v1.CacheService/Test",
    principal: { id: "local", platform: false, permissions: new Set(["*"]) },
    header: () => undefined,
    setTrailer: () => undefined,
  }
}

function open() {
  const clock = new ManualClock()
  const engines = createInProcessEngines({ clock, scripts: new LuaScripts(BUILT_IN_SCRIPTS) })
  const pages = new Pages(new Uint8Array(32))
  const cache = createCacheService({ ...engines, namespaces: new Namespaces(), pages })
  const limits = createRateLimitService({ limiter: engines.limiter })
  const { method } = CacheService
  return {
    clock,
    method,
    limit: caller(limits, RateLimitService.method.checkRateLimit),
    call<M extends DescMethod>(rpc: M, request: MessageInitShape<M["input"]>, ctx = context()) {
      return caller(cache, rpc)(request, ctx)
    },
    stream<M extends DescMethod>(
      rpc: M,
      request: unknown,
      ctx = context(),
    ): AsyncGenerator<MessageInitShape<M["output"]>> {
      const handler = cache.handlers[rpc.localName] ?? assert.fail(rpc.name)
      return handler(request as never, ctx) as AsyncGenerator<MessageInitShape<M["output"]>>
    },
  }
}

function caller<M extends DescMethod>(service: Service, rpc: M) {
  return async (
    request: MessageInitShape<M["input"]>,
    ctx = context(),
  ): Promise<MessageShape<M["output"]>> => {
    const handler = service.handlers[rpc.localName] ?? assert.fail(rpc.name)
    const answer = await handler(create(rpc.input, request) as never, ctx)
    return create(rpc.output, answer as MessageInitShape<M["output"]>) as MessageShape<M["output"]>
  }
}

describe("CacheService", () => {
  it("answers a hit and a miss without a promise", () => {
    const { cache } = { cache: open() }
    const handler = createCacheService({
      ...createInProcessEngines(),
      namespaces: new Namespaces(),
      pages: new Pages(new Uint8Array(32)),
    }).handlers.get
    const request = create(cache.method.get.input, { key: "k" })
    assert.deepEqual(handler?.(request as never, context()), { found: false })
  })

  it("keeps JSON values, and their sizes within bounds", async () => {
    const { call, method } = open()
    const json = {
      kind: { case: "structValue", value: { fields: { a: { kind: { case: "numberValue", value: 1 } } } } },
    } as const
    await call(method.set, { key: "k", value: { case: "json", value: json } })
    const { entry } = await call(method.get, { key: "k" })
    assert.deepEqual(entry?.value, { case: "json", value: create(ValueSchema, json) })
    const unset = { case: "json", value: create(ValueSchema) } as const
    await fails("INVALID_FIELD", () => call(method.set, { key: "k", value: unset }))
    const nan = {
      case: "json",
      value: create(ValueSchema, { kind: { case: "numberValue", value: Number.NaN } }),
    } as const
    await fails("INVALID_FIELD", () => call(method.set, { key: "k", value: nan }))
    const long = create(ValueSchema, { kind: { case: "stringValue", value: "x".repeat(1_048_576) } })
    await fails("LIMIT_EXCEEDED", () => call(method.set, { key: "k", value: { case: "json", value: long } }))
    assert.equal((await call(method.get, { key: "k" })).entry?.revision, entry?.revision)
  })

  it("holds the built-in namespaces to their kinds, lengths and times", async () => {
    const { call, method, clock } = open()
    const item = { value: { case: "text", value: "x" } } as const
    const namespace = "short-term-memory"
    const values = Array.from({ length: 101 }, () => item)
    const pushed = await call(method.listPush, { namespace, key: "l", end: ListEnd.TAIL, values })
    assert.deepEqual([pushed.length, pushed.dropped], [100n, 1n])
    assert.equal(Number(pushed.expireTime?.seconds) * 1_000, clock.now() + 7_200_000)
    await fails("WRONG_TYPE", () => call(method.set, { namespace, key: "l", ...item }))
    await fails("WRONG_TYPE", () => call(method.hashGet, { namespace: "tool-results", key: "k" }))
    const unknown = await fails("NOT_FOUND", () => call(method.get, { namespace: "nope", key: "k" }))
    assert.match(unknown.message, /context, default, metrics, session/)
    const { namespaces } = await call(method.listNamespaces, {})
    assert.deepEqual(
      namespaces.map(({ name }) => name),
      ["context", "default", "metrics", "session", "short-term-memory", "tool-results"],
    )
  })

  it("answers batches per key, in order, and checks all before it writes any", async () => {
    const { call, method } = open()
    const item = (key: string, value: string) => ({ key, value: { case: "text", value } }) as const
    const { results } = await call(method.batchSet, {
      items: [item("a", "1"), item("b", "2"), { ...item("a", "3"), condition: SetCondition.IF_ABSENT }],
    })
    assert.deepEqual(
      results.map(({ applied }) => applied),
      [true, true, false],
    )
    const { items } = await call(method.batchGet, { keys: ["b", "x", "a", "b"] })
    assert.deepEqual(
      items.map(({ key, found, entry }) => [key, found, entry?.value.value]),
      [
        ["b", true, "2"],
        ["x", false, undefined],
        ["a", true, "1"],
        ["b", true, "2"],
      ],
    )
    const tooMuch = Array.from({ length: 5 }, (_, index) => item(`big${index}`, "x".repeat(900_000)))
    await fails("LIMIT_EXCEEDED", () => call(method.batchSet, { items: tooMuch }))
    await fails("INVALID_FIELD", () => call(method.batchSet, { items: [item("new", "1"), { key: "none" }] }))
    const absent = await call(method.batchGet, { keys: ["big0", "new"] })
    assert.ok(absent.items.every(({ found }) => !found))
    const deleted = await call(method.batchDelete, { keys: ["a", "x", "a"] })
    assert.deepEqual(
      deleted.results.map((result) => result.deleted),
      [true, false, false],
    )
  })

  it("executes operations each for itself, with errors as data", async () => {
    const { call, method } = open()
    const { results } = await call(method.execute, {
      operations: [
        { operation: { case: "set", value: { key: "k", value: { case: "integer", value: 1n } } } },
        { operation: { case: "listPop", value: { key: "k", end: ListEnd.HEAD } } },
        { operation: { case: "get", value: { namespace: "nope", key: "k" } } },
        { operation: { case: "get", value: { key: "k" } } },
      ],
    })
    const errors = results.map(({ result }) =>
      result.case === "error" ? [result.value.code, result.value.reason] : result.case,
    )
    assert.deepEqual(errors, ["set", [9, "WRONG_TYPE"], [5, "NOT_FOUND"], "get"])
    const malformed: MessageInitShape<typeof method.execute.input> = {
      operations: [{ operation: { case: "delete", value: { key: "k" } } }, {}],
    }
    await fails("INVALID_FIELD", () => call(method.execute, malformed))
    assert.equal((await call(method.get, { key: "k" })).found, true)
  })

  it("refuses an atomic call over two namespaces, and undoes one that fails", async () => {
    const { call, method } = open()
    const set = (key: string, namespace = "") =>
      ({
        operation: { case: "set", value: { namespace, key, value: { case: "text", value: "v" } } },
      }) as const
    const mixed = { atomic: true, operations: [set("a"), set("a", "tool-results")] }
    const error = await fails("INVALID_FIELD", () => call(method.execute, mixed))
    assert.equal(error.metadata.field, "operations[1].namespace")
    const pop = { operation: { case: "listPop", value: { key: "a", end: ListEnd.HEAD } } } as const
    await fails("WRONG_TYPE", () => call(method.execute, { atomic: true, operations: [set("a"), pop] }))
    assert.equal((await call(method.get, { key: "a" })).found, false)
    const same = { atomic: true, operations: [set("a"), set("b", "default")] }
    assert.equal((await call(method.execute, same)).results.length, 2)
  })

  it("answers a pipeline in order, failures included, and each request_id once", async () => {
    const { stream, method } = open()
    const increment = {
      case: "increment",
      value: { key: "n", delta: { case: "integer", value: { delta: 1n } } },
    } as const
    async function* requests() {
      const add = create(method.execute.input, { operations: [{ operation: increment }] }).operations[0]
      const bad = create(method.execute.input, { operations: [{}] }).operations[0]
      for (const [correlationId, requestId, operation] of [
        [7n, "one", add],
        [8n, "one", add],
        [9n, "", bad],
        [7n, "", add],
      ] as const) {
        yield create(method.pipeline.input, {
          correlationId,
          requestId,
          ...(operation === undefined ? {} : { operation }),
        })
      }
    }
    const answers = []
    for await (const answer of stream(method.pipeline, requests()))
      answers.push(create(method.pipeline.output, answer))
    assert.deepEqual(
      answers.map(({ correlationId }) => correlationId),
      [7n, 8n, 9n, 7n],
    )
    const sums = answers.map(({ result }) => {
      if (result?.result.case === "increment") return result.result.value.value.value
      return result?.result.case === "error" ? result.result.value.reason : undefined
    })
    assert.deepEqual(sums, [1n, 1n, "INVALID_FIELD", 2n])
  })

  it("publishes to subscribers of the same tenant", async () => {
    const { call, stream, method } = open()
    const frames = stream(method.subscribe, create(method.subscribe.input, { topics: ["t"] }))
    const next = async () => create(method.subscribe.output, (await frames.next()).value).frame
    assert.equal((await next()).case, "heartbeat")
    const payload = { value: { case: "text", value: "hello" } } as const
    const other = await call(method.publish, { topic: "t", payload }, context("other" as TenantId))
    assert.equal(other.subscribers, 0)
    const { sequence } = await call(method.publish, { topic: "t", payload })
    const frame = await next()
    assert.ok(frame.case === "message")
    assert.deepEqual(
      [frame.value.topic, frame.value.sequence, frame.value.payload?.value.value],
      ["t", sequence, "hello"],
    )
    await frames.return(undefined)
    assert.equal((await call(method.publish, { topic: "t", payload })).subscribers, 0)
    await fails("INVALID_FIELD", async () =>
      stream(method.subscribe, create(method.subscribe.input, {})).next(),
    )
  })

  it("pages through keys, and takes a token for nothing but its own question", async () => {
    const { call, method } = open()
    for (const key of ["a1", "a2", "a3", "b1"])
      await call(method.set, { key, value: { case: "text", value: "v" } })
    const first = await call(method.listKeys, { prefix: "a", pageSize: 2 })
    assert.deepEqual(
      first.keys.map(({ key }) => key),
      ["a1", "a2"],
    )
    const second = await call(method.listKeys, { prefix: "a", pageSize: 2, pageToken: first.nextPageToken })
    assert.deepEqual([second.keys.map(({ key }) => key), second.nextPageToken], [["a3"], ""])
    await fails("INVALID_PAGE_TOKEN", () =>
      call(method.listKeys, { prefix: "b", pageToken: first.nextPageToken }),
    )
    await fails("INVALID_FIELD", () => call(method.listKeys, { pageSize: -1 }))
  })

  it("runs scripts over declared keys", async () => {
    const { call, method } = open()
    await call(method.set, { key: "k", value: { case: "text", value: "old" } })
    const run = (args: string[]) => call(method.runScript, { name: "compare-and-set", keys: ["k"], args })
    assert.deepEqual((await run(["old", "new"])).result?.kind, { case: "boolValue", value: true })
    assert.deepEqual((await run(["old", "newer"])).result?.kind, { case: "boolValue", value: false })
    await fails("LIMIT_EXCEEDED", () => run(["x".repeat(1_048_577)]))
    await fails("WRONG_TYPE", async () => {
      await call(method.hashSet, {
        key: "k",
        fields: [{ name: "f", value: { value: { case: "text", value: "v" } } }],
      })
    })
  })
})

describe("RateLimitService", () => {
  it("limits, tells how long to wait, and refuses what could never pass", async () => {
    const { limit, clock } = open()
    const rule = { name: "calls", limit: 2n, window: durationFromMs(1_000) }
    const first = await limit({ limits: [{ ...rule, cost: 2n }] })
    assert.deepEqual([first.allowed, first.states[0]?.remaining], [true, 0n])
    assert.equal(first.states[0]?.algorithm, RateLimitAlgorithm.EXACT_LOG)
    clock.advance(400)
    const denied = await limit({ limits: [rule] })
    assert.equal(denied.allowed, false)
    assert.deepEqual(denied.states[0]?.retryAfter, durationFromMs(600))
    await fails("INVALID_FIELD", () => limit({ limits: [{ ...rule, cost: 3n }] }))
    await fails("INVALID_FIELD", () => limit({ limits: [rule, rule] }))
    await fails("INVALID_FIELD", () => limit({ limits: [{ ...rule, window: durationFromMs(0) }] }))
    const exact = { ...rule, limit: 20_000n, algorithm: RateLimitAlgorithm.EXACT_LOG }
    await fails("LIMIT_EXCEEDED", () => limit({ limits: [exact] }))
    const large = await limit({ limits: [{ ...rule, limit: 5_000n }] })
    assert.equal(large.states[0]?.algorithm, RateLimitAlgorithm.WEIGHTED_WINDOWS)
  })
})
