/**
 * One valid call of every RPC that a tenant may make, in an order in which each finds what it needs. Several tests run it: two
 * tenants with the same names, bad input made from good input, a replay of every mutation. A test fails when an RPC is missing.
 */
import type { JsonValue } from "@bufbuild/protobuf"

/** Values that earlier answers gave, by a name of this file's choosing. */
export type Seen = Map<string, string>

/** One call. */
export interface Step {
  /** `Service/Method`, in keelplane.v1. */
  readonly rpc: string
  /** The request as proto JSON; for client streams: the messages. */
  request(seen: Seen): JsonValue
  /** Notes parts of the answer (proto JSON) for later steps. */
  keep?(answer: Record<string, JsonValue>, seen: Seen): void
  /** For streams without an end of their own: how many frames to take. Default: all. */
  readonly frames?: number
}

type Json = Record<string, JsonValue>

function call(
  rpc: string,
  request: JsonValue | ((seen: Seen) => JsonValue),
  keep?: Step["keep"],
  frames?: number,
): Step {
  return {
    rpc,
    request: typeof request === "function" ? request : () => request,
    ...(keep ? { keep } : {}),
    ...(frames === undefined ? {} : { frames }),
  }
}

const part = (answer: Json, ...path: (string | number)[]): string => {
  let value: JsonValue | undefined = answer
  for (const step of path) {
    value = Array.isArray(value) ? value[Number(step)] : (value as Json | undefined)?.[step]
  }
  return String(value)
}

const seenIn = (seen: Seen, name: string): string => seen.get(name) ?? ""

const memory: Step[] = [
  call("MemoryService/CreateCollection", {
    collection: { id: "notes", embedder: "builtin-lexical-384", labels: { team: "a" } },
    requestId: "create-notes",
  }),
  call("MemoryService/GetCollection", { collectionId: "notes" }),
  call("MemoryService/ListCollections", { pageSize: 10 }),
  call("MemoryService/UpdateCollection", {
    collection: { id: "notes", description: "changed" },
    updateMask: "description",
    requestId: "update-notes",
  }),
  call("MemoryService/UpsertRecords", {
    collectionId: "notes",
    records: [
      { id: "one", text: "the first note about breakers", metadata: { lang: "en", n: 1 } },
      { id: "two", text: "the second note about leases", metadata: { lang: "de", n: 2 } },
    ],
    requestId: "upsert-notes",
  }),
  call("MemoryService/ImportRecords", [
    { collectionId: "notes", records: [{ id: "three", text: "an imported note" }] },
  ]),
  call("MemoryService/GetRecords", { collectionId: "notes", ids: ["one", "absent"] }),
  call("MemoryService/ListRecords", { collectionId: "notes", filter: 'metadata.lang = "en"', pageSize: 10 }),
  call("MemoryService/CountRecords", { collectionId: "notes" }),
  call("MemoryService/Search", { collectionId: "notes", query: { text: "leases", k: 2 } }),
  call("MemoryService/BatchSearch", {
    collectionId: "notes",
    queries: [{ text: "note" }, { recordId: "one" }],
  }),
  call("MemoryService/ExportRecords", { collectionId: "notes" }),
  call("MemoryService/OptimizeCollection", { collectionId: "notes" }),
  call("MemoryService/DeleteRecords", {
    collectionId: "notes",
    ids: { ids: ["two"] },
    requestId: "delete-two",
  }),
]

const events: Step[] = [
  call("EventService/AppendEvents", {
    stream: "order-1",
    noStream: true,
    events: [
      { type: "order.opened", json: { total: 5 }, statePatch: { status: "open" } },
      { type: "order.paid", json: {}, statePatch: { status: "paid" } },
      { type: "order.sent", json: {}, statePatch: { status: "sent" } },
    ],
    requestId: "append-1",
  }),
  call("EventService/ReadStream", { stream: "order-1" }),
  call("EventService/ReadFeed", { category: "order" }),
  call("EventService/Subscribe", { stream: "order-1" }, undefined, 4),
  call("EventService/GetStreamState", { stream: "order-1", atRevision: "2" }),
  call("EventService/SaveSnapshot", { stream: "order-1", requestId: "snap-1" }),
  call("EventService/GetSnapshot", { stream: "order-1" }),
  call("EventService/ListStreams", { filter: 'category = "order"' }),
  call("EventService/TruncateStream", { stream: "order-1", beforeRevision: "2", requestId: "truncate-1" }),
  call("EventService/AppendEvents", {
    stream: "order-2",
    events: [{ type: "order.opened" }],
    requestId: "append-2",
  }),
  call("EventService/DeleteStream", { stream: "order-2", requestId: "delete-2" }),
]

const sessions: Step[] = [
  call("SessionService/CreateSession", {
    session: { sessionId: "talk", agentId: "helper", userId: "ada" },
    requestId: "create-talk",
  }),
  call("SessionService/GetSession", { sessionId: "talk" }),
  call("SessionService/UpdateSession", {
    session: { sessionId: "talk", title: "changed" },
    updateMask: "title",
    requestId: "update-talk",
  }),
  call("SessionService/AppendMessages", {
    sessionId: "talk",
    messages: [{ role: "MESSAGE_ROLE_USER", content: [{ text: "hello" }] }],
    requestId: "say-1",
  }),
  call("SessionService/ListMessages", { sessionId: "talk", last: 5 }),
  call("SessionService/ListSessions", { agentId: "helper" }),
  call("SessionService/EndSession", { sessionId: "talk", reason: "done", requestId: "end-talk" }),
]

const jobs: Step[] = [
  call(
    "JobService/EnqueueJob",
    { job: { queue: "mail", payload: { data: { to: "ada" } } }, requestId: "enqueue-1" },
    (answer, seen) => seen.set("job", part(answer, "job", "jobId")),
  ),
  call("JobService/GetJob", (seen) => ({ jobId: seenIn(seen, "job") })),
  call("JobService/ListJobs", { filter: 'queue = "mail"' }),
  call("JobService/ClaimJobs", { workerId: "w", queues: ["mail"], requestId: "claim-1" }, (answer, seen) =>
    seen.set("lease", part(answer, "jobs", 0, "leaseToken")),
  ),
  call("JobService/HeartbeatJob", (seen) => ({
    jobId: seenIn(seen, "job"),
    leaseToken: seenIn(seen, "lease"),
    requestId: "beat-1",
  })),
  call("JobService/CompleteJob", (seen) => ({
    jobId: seenIn(seen, "job"),
    leaseToken: seenIn(seen, "lease"),
    result: { data: { ok: true } },
    requestId: "complete-1",
  })),
  call("JobService/WatchJob", (seen) => ({ jobId: seenIn(seen, "job") })),
  call(
    "JobService/EnqueueJobs",
    { jobs: [{ queue: "mail" }, { queue: "post" }], requestId: "enqueue-2" },
    (answer, seen) => {
      seen.set("failing", part(answer, "jobs", 0, "job", "jobId"))
      seen.set("cancelled", part(answer, "jobs", 1, "job", "jobId"))
    },
  ),
  call("JobService/ClaimJobs", { workerId: "w", queues: ["mail"], requestId: "claim-2" }, (answer, seen) =>
    seen.set("failingLease", part(answer, "jobs", 0, "leaseToken")),
  ),
  call("JobService/FailJob", (seen) => ({
    jobId: seenIn(seen, "failing"),
    leaseToken: seenIn(seen, "failingLease"),
    error: { message: "no route" },
    retryable: false,
    requestId: "fail-1",
  })),
  call("JobService/RetryJob", (seen) => ({ jobId: seenIn(seen, "failing"), requestId: "retry-1" })),
  call("JobService/CancelJob", (seen) => ({ jobId: seenIn(seen, "cancelled"), requestId: "cancel-1" })),
]

const audit: Step[] = [
  call("AuditService/RecordAudit", {
    records: [
      {
        actor: "ada",
        action: "document.read",
        resourceType: "document",
        resourceId: "7",
        outcome: "AUDIT_OUTCOME_SUCCESS",
      },
    ],
    requestId: "audit-1",
  }),
  call("AuditService/QueryAudit", { query: { actor: "ada" } }),
  call("AuditService/SummarizeAudit", { query: { actor: "ada" } }),
  call("AuditService/VerifyAudit", {}),
  call("AuditService/ExportAudit", { query: { actor: "ada" } }),
]

const cacheOperation = { set: { namespace: "default", key: "e", text: "x" } }

const cache: Step[] = [
  call("CacheService/ListNamespaces", {}),
  call("CacheService/Set", { key: "k", text: "v", tags: ["t"], requestId: "set-1" }),
  call("CacheService/Get", { key: "k" }),
  call("CacheService/BatchSet", {
    items: [
      { key: "a", text: "1" },
      { key: "b", json: { x: 1 } },
    ],
    requestId: "set-2",
  }),
  call("CacheService/BatchGet", { keys: ["a", "b", "absent"] }),
  call("CacheService/Increment", { key: "n", integer: { delta: "2" }, requestId: "inc-1" }),
  call("CacheService/Expire", { key: "n", ttl: "3600s", requestId: "expire-1" }),
  call("CacheService/ListKeys", { prefix: "" }),
  call("CacheService/HashSet", {
    namespace: "session",
    key: "h",
    fields: [{ name: "f", value: { text: "1" } }],
    requestId: "hset-1",
  }),
  call("CacheService/HashGet", { namespace: "session", key: "h" }),
  call("CacheService/HashIncrement", {
    namespace: "session",
    key: "h",
    name: "count",
    integer: { delta: "1" },
    requestId: "hinc-1",
  }),
  call("CacheService/HashDelete", { namespace: "session", key: "h", names: ["f"], requestId: "hdel-1" }),
  call("CacheService/ListPush", {
    namespace: "short-term-memory",
    key: "l",
    end: "LIST_END_TAIL",
    values: [{ text: "1" }, { text: "2" }, { text: "3" }],
    requestId: "push-1",
  }),
  call("CacheService/ListRange", { namespace: "short-term-memory", key: "l", start: "0" }),
  call("CacheService/ListTrim", {
    namespace: "short-term-memory",
    key: "l",
    start: "1",
    requestId: "trim-1",
  }),
  call("CacheService/ListPop", {
    namespace: "short-term-memory",
    key: "l",
    end: "LIST_END_HEAD",
    count: 1,
    requestId: "pop-1",
  }),
  call("CacheService/SortedSetAdd", {
    key: "z",
    members: [{ member: "m", score: 1.5 }],
    requestId: "zadd-1",
  }),
  call("CacheService/SortedSetIncrement", { key: "z", member: "m", delta: 2, requestId: "zinc-1" }),
  call("CacheService/SortedSetRange", { key: "z", byRank: {} }),
  call("CacheService/SortedSetRemove", { key: "z", members: ["m"], requestId: "zrem-1" }),
  call("CacheService/Execute", { operations: [cacheOperation], atomic: true, requestId: "exec-1" }),
  call("CacheService/Pipeline", [{ correlationId: "1", operation: cacheOperation, requestId: "pipe-1" }]),
  call("CacheService/RunScript", {
    name: "compare-and-delete",
    keys: ["s"],
    args: ["nothing"],
    requestId: "script-1",
  }),
  call("CacheService/Publish", { topic: "news", payload: { text: "hi" }, requestId: "publish-1" }),
  call("CacheService/Subscribe", { topics: ["news"] }, undefined, 1),
  call("CacheService/InvalidateTags", { tags: ["t"], requestId: "tags-1" }),
  call("CacheService/InvalidatePattern", { pattern: "a*", requestId: "glob-1" }),
  call("CacheService/Delete", { key: "b", requestId: "del-1" }),
  call("CacheService/BatchDelete", { keys: ["n", "e"], requestId: "del-2" }),
  call("CacheService/Set", { namespace: "tool-results", key: "k", text: "v" }),
  call("CacheService/ClearNamespace", { namespace: "tool-results", requestId: "clear-1" }),
]

const locks: Step[] = [
  call("LockService/AcquireLock", { name: "door", ownerId: "me", requestId: "lock-1" }, (answer, seen) =>
    seen.set("token", part(answer, "token")),
  ),
  call("LockService/GetLock", { name: "door" }),
  call("LockService/RenewLock", (seen) => ({
    name: "door",
    token: seenIn(seen, "token"),
    requestId: "renew-1",
  })),
  call("LockService/ReleaseLock", (seen) => ({
    name: "door",
    token: seenIn(seen, "token"),
    requestId: "release-1",
  })),
  call("RateLimitService/CheckRateLimit", {
    limits: [{ name: "calls", key: "ada", limit: "10", window: "60s" }],
    requestId: "rate-1",
  }),
]

const subject = { userId: "ada" }

const control: Step[] = [
  call("ControlService/CreateUser", { user: { userId: "ada", displayName: "Ada" }, requestId: "user-1" }),
  call("ControlService/GetUser", { userId: "ada" }),
  call("ControlService/ListUsers", { pageSize: 10 }),
  call("ControlService/UpdateUser", {
    user: { userId: "ada", displayName: "Ada L." },
    updateMask: "displayName",
    requestId: "user-2",
  }),
  call("ControlService/CreateAgent", { agent: { agentId: "helper", userId: "ada" }, requestId: "agent-1" }),
  call("ControlService/GetAgent", { agentId: "helper" }),
  call("ControlService/ListAgents", { pageSize: 10 }),
  call("ControlService/UpdateAgent", {
    agent: { agentId: "helper", description: "helps" },
    updateMask: "description",
    requestId: "agent-2",
  }),
  call(
    "ControlService/CreateApiKey",
    { name: "ci", permissions: ["cache.read"], requestId: "key-1" },
    (answer, seen) => {
      seen.set("apiKey", part(answer, "apiKey", "apiKeyId"))
      seen.set("apiToken", part(answer, "token"))
    },
  ),
  call("ControlService/VerifyApiKey", (seen) => ({ token: seenIn(seen, "apiToken") })),
  call("ControlService/ListApiKeys", { pageSize: 10 }),
  call("ControlService/RotateApiKey", (seen) => ({ apiKeyId: seenIn(seen, "apiKey"), requestId: "key-2" })),
  call("ControlService/RevokeApiKey", (seen) => ({ apiKeyId: seenIn(seen, "apiKey"), requestId: "key-3" })),
  call("ControlService/CreateRole", {
    role: { roleId: "reader", permissions: ["document:read"] },
    requestId: "role-1",
  }),
  call("ControlService/GetRole", { roleId: "reader" }),
  call("ControlService/ListRoles", { pageSize: 10 }),
  call("ControlService/UpdateRole", {
    role: { roleId: "reader", description: "reads" },
    updateMask: "description",
    requestId: "role-2",
  }),
  call("ControlService/AssignRole", { roleId: "reader", subject, requestId: "assign-1" }),
  call("ControlService/ListRoleAssignments", { roleId: "reader" }),
  call("ControlService/CheckPermission", { check: { subject, permission: "document:read" } }),
  call("ControlService/BatchCheckPermissions", { checks: [{ subject, permission: "document:write" }] }),
  call("ControlService/ListPermissions", { subject }),
  call("ControlService/RevokeRole", { roleId: "reader", subject, requestId: "assign-2" }),
  call("ControlService/DeleteRole", { roleId: "reader", requestId: "role-3" }),
  call("ControlService/PutConfig", {
    key: "prompt",
    structValue: { text: "be kind" },
    requestId: "config-1",
  }),
  call("ControlService/PutConfig", {
    key: "prompt",
    structValue: { text: "be brief" },
    ifVersion: "1",
    requestId: "config-2",
  }),
  call("ControlService/GetConfig", { key: "prompt", version: "1" }),
  call("ControlService/ListConfigVersions", { key: "prompt" }),
  call("ControlService/RollbackConfig", { key: "prompt", version: "1", requestId: "config-3" }),
  call("ControlService/ListConfigs", {}),
  call("ControlService/WatchConfig", { key: "prompt" }, undefined, 1),
  call("ControlService/DeleteConfig", { key: "prompt", requestId: "config-4" }),
  call("ControlService/DeleteAgent", { agentId: "helper", requestId: "agent-3" }),
  call("ControlService/CreateAgent", {
    agent: { agentId: "scout" },
    provision: { collection: { id: "scouting", dimension: 4 }, stream: true },
    requestId: "agent-4",
  }),
  call(
    "ControlService/EraseSubject",
    { agentId: "scout", requestId: "erase-1" },
    (answer, seen) => void seen.set("saga", part(answer, "sagaId")),
  ),
  call("ControlService/GetSaga", (seen) => ({ sagaId: seenIn(seen, "saga") })),
  call("ControlService/ListSagas", { kind: "create-agent" }),
  call("ControlService/DeleteUser", { userId: "ada", requestId: "user-3" }),
]

const billing: Step[] = [
  call("BillingService/RecordUsage", {
    events: [{ eventId: "u1", meter: "tokens", quantity: "12.5", agentId: "helper" }],
    requestId: "usage-1",
  }),
  call("BillingService/GetUsage", { meter: "tokens", aggregation: "USAGE_AGGREGATION_SUM" }),
  call("BillingService/SetBudget", {
    budget: { budgetId: "b", meter: "tokens", period: "BUDGET_PERIOD_TOTAL", limit: "100" },
    requestId: "budget-1",
  }),
  call("BillingService/GetBudget", { budgetId: "b" }),
  call("BillingService/ListBudgets", {}),
  call(
    "BillingService/ReserveUsage",
    { items: [{ meter: "tokens", quantity: "10" }], requestId: "reserve-1" },
    (answer, seen) => seen.set("reservation", part(answer, "reservation", "reservationId")),
  ),
  call("BillingService/SettleUsage", (seen) => ({
    reservationId: seenIn(seen, "reservation"),
    items: [{ meter: "tokens", quantity: "7" }],
    requestId: "settle-1",
  })),
  call(
    "BillingService/ReserveUsage",
    { items: [{ meter: "tokens", quantity: "5" }], requestId: "reserve-2" },
    (answer, seen) => seen.set("released", part(answer, "reservation", "reservationId")),
  ),
  call("BillingService/ReleaseUsage", (seen) => ({
    reservationId: seenIn(seen, "released"),
    requestId: "release-1",
  })),
  call("BillingService/DeleteBudget", { budgetId: "b", requestId: "budget-2" }),
]

/** Everything a tenant's credential may do. Ends with the collection's deletion, so that reads before it find it. */
export const SCENARIO: readonly Step[] = [
  ...memory,
  ...events,
  ...sessions,
  ...jobs,
  ...audit,
  ...cache,
  ...locks,
  ...control,
  ...billing,
]

/** RPCs that remove what others need; run last. */
export const EPILOGUE: readonly Step[] = [
  call("MemoryService/DeleteCollection", { collectionId: "notes", requestId: "delete-notes" }),
]

/** RPCs for platform credentials only; they are not part of a tenant's life. */
export const PLATFORM_RPCS: readonly string[] = [
  "ControlService/CreateTenant",
  "ControlService/GetTenant",
  "ControlService/ListTenants",
  "ControlService/UpdateTenant",
  "ControlService/DeleteTenant",
  "ControlService/RetrySaga",
  "AdminService/GetStatus",
  "AdminService/GetConfiguration",
  "AdminService/ListMigrations",
  "AdminService/ListBreakers",
  "AdminService/TripBreaker",
  "AdminService/ResetBreaker",
  "AdminService/ListOutbox",
  "AdminService/ReplayOutbox",
  "AdminService/Drain",
]
