/**
 * Bad input, made from good input, for every RPC: the right status with ErrorInfo and, for fields, BadRequest; never INTERNAL or
 * UNKNOWN; nothing half-written; and a daemon that goes on. Knows no engine.
 */
import assert from "node:assert/strict"
import test, { after, before } from "node:test"
import { type DescField, fromJson, type JsonValue } from "@bufbuild/protobuf"
import { REASONS } from "../../src/domain/kernel/errors.ts"
import type { Daemon } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { invoke, METHODS, methodOf, play } from "./registry.ts"
import { EPILOGUE, SCENARIO, type Seen } from "./scenario.ts"

type Json = Record<string, JsonValue>

// Of the one suite of a test file.
let daemon: Daemon
let channel: Channel
/** A request that was valid, by RPC; the last one where an RPC is called more than once. */
const valid = new Map<string, JsonValue>()

/** Registers the suite on a daemon of its own. */
export function badInputSuite(start: () => Promise<Daemon>): void {
  storesBadInputSuite(start)
  values()
  wrongTypes()
}

/** That part of it which reaches stores. */
export function storesBadInputSuite(start: () => Promise<Daemon>): void {
  before(async () => {
    daemon = await start()
    channel = daemon.channel()
    const seen: Seen = new Map()
    for (const step of [...SCENARIO, ...EPILOGUE]) {
      valid.set(step.rpc, withoutRequestId(step.request(seen)))
      await play(channel, step, seen)
    }
  })

  after(async () => {
    channel?.close()
    await daemon?.stop()
  })

  tokensAndFilters()
  nul()
  absence()
  batches()
}

function withoutRequestId(request: JsonValue): JsonValue {
  if (Array.isArray(request)) return request.map(withoutRequestId)
  const { requestId: _, ...rest } = request as Json
  return rest
}

/** How long a stream that was not refused has for its first answer; most have none to give. */
const FIRST_MS = 2_000

async function failure(rpc: string, request: JsonValue): Promise<CallError | undefined> {
  const method = methodOf(rpc)
  try {
    if (method.methodKind === "server_streaming") {
      const input = fromJson(method.input, request)
      for await (const _ of channel.stream(method, input, { timeoutMs: FIRST_MS })) break
    } else await invoke(channel, rpc, request)
    return undefined
  } catch (error) {
    if (!(error instanceof CallError)) throw error
    if (error.code === 4 && method.methodKind === "server_streaming") return undefined
    assert.ok(
      error.code !== 13 && error.code !== 2,
      `${rpc} answered ${error.message} to ${JSON.stringify(request).slice(0, 300)}`,
    )
    assert.ok(
      (REASONS as readonly string[]).includes(error.reason),
      `${rpc}: reason "${error.reason}" of ${error.message}`,
    )
    return error
  }
}

/** Unary and server-streaming RPCs with their good request. */
function* requests(): Generator<[string, Json]> {
  for (const [rpc, request] of valid) {
    const kind = methodOf(rpc).methodKind
    if (kind === "unary" || kind === "server_streaming") yield [rpc, request as Json]
  }
}

function fieldsOf(rpc: string): readonly DescField[] {
  return methodOf(rpc).input.fields
}

function tokensAndFilters(): void {
  test("an empty message is never INTERNAL", async () => {
    for (const rpc of METHODS.keys()) {
      if (rpc === "AdminService/Drain") continue
      const kind = methodOf(rpc).methodKind
      if (kind === "unary" || kind === "server_streaming") await failure(rpc, {})
    }
  })

  test("a negative page size is INVALID_ARGUMENT with the field", async () => {
    for (const [rpc, request] of requests()) {
      if (!fieldsOf(rpc).some((field) => field.name === "page_size")) continue
      const error = await failure(rpc, { ...request, pageSize: -1 })
      assert.equal(error?.code, 3, rpc)
      assert.ok(error?.fields.includes("page_size"), `${rpc}: ${error?.fields}`)
    }
  })

  test("a forged page token and a forged resume token are INVALID_ARGUMENT", async () => {
    for (const [rpc, request] of requests()) {
      for (const [name, json, reason] of [
        ["page_token", "pageToken", "INVALID_PAGE_TOKEN"],
        ["resume_token", "resumeToken", "INVALID_RESUME_TOKEN"],
      ] as const) {
        if (!fieldsOf(rpc).some((field) => field.name === name)) continue
        const { last: _last, ...rest } = request
        for (const forged of [
          "forged",
          "AAAA",
          "v1.".padEnd(80, "x"),
          Buffer.from('{"cursor":["a"]}').toString("base64url"),
        ]) {
          const error = await failure(rpc, { ...rest, [json]: forged })
          assert.equal(error?.code, 3, `${rpc} took the token ${forged}`)
          assert.equal(error?.reason, reason, rpc)
        }
      }
    }
  })

  test("a malformed filter is INVALID_ARGUMENT with its position", async () => {
    for (const [rpc, request] of requests()) {
      const field = fieldsOf(rpc).find((each) => each.name === "filter")
      if (!field) continue
      for (const filter of ["a = = b", "(", 'x = "unterminated', "AND", "no_such_field_anywhere = 1 AND ("]) {
        const error = await failure(rpc, withField(request, field, filter))
        assert.equal(error?.code, 3, `${rpc} took ${filter}`)
        assert.equal(error?.reason, "INVALID_FILTER", rpc)
        assert.match(error?.metadata.position ?? "", /^\d+$/, `${rpc}: no position for ${filter}`)
      }
    }
  })
}

function values(): void {
  test("an unknown enum number is INVALID_ARGUMENT", async () => {
    for (const [rpc, request] of requests()) {
      for (const field of fieldsOf(rpc)) {
        if (field.fieldKind !== "enum") continue
        const error = await failure(rpc, { ...request, [field.jsonName]: 9999 })
        assert.equal(error?.code, 3, `${rpc}.${field.name}`)
      }
    }
  })

  test("a text of a million characters in any field is refused, not stored and not INTERNAL", async () => {
    const huge = "x".repeat(1_500_000)
    for (const [rpc, request] of requests()) {
      for (const field of fieldsOf(rpc)) {
        if (field.fieldKind !== "scalar" || field.scalar !== 9 || field.oneof) continue
        const error = await failure(rpc, { ...request, [field.jsonName]: huge })
        assert.ok(
          error && [3, 8].includes(error.code),
          `${rpc}.${field.name} took 1.5 MB: ${error?.message.slice(0, 200)}`,
        )
      }
    }
  })

  test("a message over the size limit ends the call, not the daemon", async () => {
    const data = Buffer.alloc(6 * 1024 * 1024).toString("base64")
    const error = await failureOrTransport(() => invoke(channel, "CacheService/Set", { key: "big", data }))
    assert.ok([3, 8].includes(error.code), error.message)
    await invoke(channel, "CacheService/Get", { key: "big" })
  })
}

async function failureOrTransport(work: () => Promise<unknown>): Promise<CallError> {
  try {
    await work()
  } catch (error) {
    if (error instanceof CallError) return error
    throw error
  }
  throw new Error("the call succeeded")
}

/** The request with one field set; the other fields of its oneof make room for it. */
function withField(request: Json, field: DescField, value: JsonValue): Json {
  const others = field.oneof?.fields.map((each) => each.jsonName) ?? []
  const rest = Object.fromEntries(Object.entries(request).filter(([name]) => !others.includes(name)))
  return { ...rest, [field.jsonName]: value }
}

/** A value of a type that the field does not have. */
function wrongType(field: DescField): JsonValue {
  if (field.fieldKind === "message") return 7
  if (field.fieldKind === "list" || field.fieldKind === "map") return "not a collection"
  return { not: "a scalar" }
}

function wrongTypes(): void {
  test("JSON of the wrong type is 400 with a reason, for every field of every unary RPC", async () => {
    for (const [rpc, request] of requests()) {
      if (methodOf(rpc).methodKind !== "unary") continue
      for (const field of fieldsOf(rpc)) {
        if (field.message?.typeName === "google.protobuf.Value") continue
        const response = await fetch(`http://${daemon.address}/keelplane.v1.${rpc}`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify({ ...request, [field.jsonName]: wrongType(field) }),
        })
        const body = (await response.json()) as { code?: string; details?: { type: string }[] }
        assert.equal(response.status, 400, `${rpc}.${field.name}: ${JSON.stringify(body)}`)
        assert.equal(body.code, "invalid_argument")
        assert.ok(
          body.details?.some((detail) => detail.type === "google.rpc.ErrorInfo"),
          `${rpc}: no ErrorInfo`,
        )
      }
    }
  })
}

const ABSENT: readonly [string, Json][] = [
  ["MemoryService/GetCollection", { collectionId: "absent" }],
  ["MemoryService/DeleteCollection", { collectionId: "absent" }],
  [
    "MemoryService/UpdateCollection",
    { collection: { id: "absent", description: "x" }, updateMask: "description" },
  ],
  ["MemoryService/UpsertRecords", { collectionId: "absent", records: [{ id: "a", text: "b" }] }],
  ["MemoryService/GetRecords", { collectionId: "absent", ids: ["a"] }],
  ["MemoryService/Search", { collectionId: "absent", query: { text: "a" } }],
  ["MemoryService/CountRecords", { collectionId: "absent" }],
  ["MemoryService/ExportRecords", { collectionId: "absent" }],
  ["EventService/ReadStream", { stream: "absent-1" }],
  ["EventService/GetStreamState", { stream: "absent-1" }],
  ["EventService/GetSnapshot", { stream: "absent-1" }],
  ["EventService/TruncateStream", { stream: "absent-1", beforeRevision: "1" }],
  ["SessionService/GetSession", { sessionId: "absent" }],
  [
    "SessionService/AppendMessages",
    { sessionId: "absent", messages: [{ role: "MESSAGE_ROLE_USER", content: [{ text: "a" }] }] },
  ],
  ["SessionService/ListMessages", { sessionId: "absent" }],
  ["SessionService/EndSession", { sessionId: "absent" }],
  ["JobService/GetJob", { jobId: "absent" }],
  ["JobService/CancelJob", { jobId: "absent" }],
  ["JobService/RetryJob", { jobId: "absent" }],
  ["JobService/WatchJob", { jobId: "absent" }],
  ["CacheService/Get", { namespace: "no-such-namespace", key: "a" }],
  ["CacheService/RunScript", { name: "no-such-script" }],
  ["ControlService/GetTenant", { tenantId: "absent" }],
  ["ControlService/GetUser", { userId: "absent" }],
  ["ControlService/GetAgent", { agentId: "absent" }],
  ["ControlService/GetRole", { roleId: "absent" }],
  ["ControlService/RevokeApiKey", { apiKeyId: "absent" }],
  ["ControlService/GetConfig", { key: "absent" }],
  ["ControlService/RollbackConfig", { key: "absent", version: "1" }],
  ["BillingService/GetBudget", { budgetId: "absent" }],
  ["BillingService/SettleUsage", { reservationId: "absent", items: [{ meter: "a", quantity: "1" }] }],
  ["BillingService/ReleaseUsage", { reservationId: "absent" }],
]

function nul(): void {
  test("a NUL character in any text is never INTERNAL", async () => {
    for (const [rpc, request] of requests()) {
      for (const field of fieldsOf(rpc)) {
        if (field.fieldKind !== "scalar" || field.scalar !== 9) continue
        await failure(rpc, withField(request, field, "a\u0000b"))
      }
    }
  })
}

function absence(): void {
  test("what does not exist is NOT_FOUND, with what and by which name", async () => {
    for (const [rpc, request] of ABSENT) {
      const error = await failure(rpc, request)
      assert.equal(error?.code, 5, `${rpc}: ${error?.message}`)
      assert.equal(error?.reason, "NOT_FOUND", rpc)
      assert.ok(error?.metadata.resource && error.metadata.name, `${rpc}: ${JSON.stringify(error?.metadata)}`)
    }
  })
}

function batches(): void {
  test("a batch with one bad item leaves nothing behind", async () => {
    const nan = Buffer.from(new Float32Array([1, Number.NaN, 0]).buffer).toString("base64")
    await invoke(channel, "MemoryService/CreateCollection", { collection: { id: "whole", dimension: 3 } })
    const good: Json = { id: "good", vector: { values: { values: [1, 2, 3] } } }
    const spoiled: Json[] = [
      { id: "bad", vector: { values: { values: [1, 2] } } },
      { id: "bad", vector: { packed: nan } },
      { id: "bad" },
    ]
    for (const bad of spoiled) {
      const error = await failure("MemoryService/UpsertRecords", {
        collectionId: "whole",
        records: [good, bad],
      })
      assert.equal(error?.code, 3)
      assert.ok(
        error?.fields.some((field) => field.startsWith("records[1]")),
        `${error?.fields}`,
      )
    }
    assert.deepEqual(await invoke(channel, "MemoryService/CountRecords", { collectionId: "whole" }), {})

    const event = { type: "a" }
    const appended = await failure("EventService/AppendEvents", {
      stream: "whole-1",
      events: [event, { type: "" }],
    })
    assert.equal(appended?.code, 3)
    assert.equal((await failure("EventService/ReadStream", { stream: "whole-1" }))?.code, 5)

    const enqueued = await failure("JobService/EnqueueJobs", { jobs: [{ queue: "whole" }, { queue: "???" }] })
    assert.equal(enqueued?.code, 3)
    assert.deepEqual(await invoke(channel, "JobService/ListJobs", { queue: "whole" }), {})

    const usage = { eventId: "w1", meter: "whole", quantity: "1" }
    const recorded = await failure("BillingService/RecordUsage", {
      events: [usage, { ...usage, eventId: "w2", quantity: "-1" }],
    })
    assert.equal(recorded?.code, 3)
    const answer = (await invoke(channel, "BillingService/GetUsage", {
      meter: "whole",
      aggregation: "USAGE_AGGREGATION_COUNT",
    })) as Json
    assert.ok(!JSON.stringify(answer).includes('"eventCount":"1"'), JSON.stringify(answer))

    const atomic = await failure("CacheService/Execute", {
      atomic: true,
      operations: [
        { set: { key: "whole-list", text: "1" } },
        { listPush: { key: "whole-list", end: "LIST_END_TAIL", values: [{ text: "x" }] } },
      ],
    })
    assert.equal(atomic?.reason, "WRONG_TYPE")
    assert.deepEqual(await invoke(channel, "CacheService/Get", { key: "whole-list" }), {})
  })
}
