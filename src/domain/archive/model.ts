/** What an archive of a tenant holds: items of a few kinds, each a record of named fields, the same whichever engine had it. */
import type { JsonValue } from "../kernel/json.ts"

/** The JavaScript value of each type of field. Times are milliseconds since the epoch, decimals exact text. */
interface Values {
  text: string
  int64: bigint
  int: number
  bool: boolean
  time: number
  bytes: Uint8Array
  json: JsonValue
  texts: readonly string[]
  ints: readonly number[]
}

/** A type of field; with `?` it may be null. */
export type FieldType = keyof Values | `${keyof Values}?`

const OWNED = { agentId: "text", userId: "text", sessionId: "text" } as const
const DATED = { createTime: "time", updateTime: "time" } as const
const SUBJECT = { subjectKind: "text", subjectId: "text" } as const

/** All kinds with their fields. A change of one is a new version of the format; a program that does not know a new one refuses it. */
export const KINDS = {
  collection: {
    id: "text",
    description: "text",
    labels: "json",
    dimension: "int",
    metric: "text",
    quantization: "text",
    index: "json",
    embedder: "text",
    storageMode: "text",
    defaultTtlMs: "int64?",
    revision: "int64",
    ...DATED,
  },
  // The vector's components as little-endian 32-bit floats.
  record: {
    collection: "text",
    id: "text",
    text: "text",
    metadata: "json",
    vector: "bytes",
    revision: "int64",
    writes: "int",
    ...DATED,
    expireTime: "time?",
  },
  stream: {
    stream: "text",
    head: "int64",
    first: "int64",
    createTime: "time",
    recordTime: "time",
    deleteTime: "time?",
  },
  // In the order of the feed.
  event: {
    stream: "text",
    revision: "int64",
    eventId: "text",
    type: "text",
    json: "text?",
    binary: "bytes?",
    contentType: "text",
    metadata: "text?",
    statePatch: "text?",
    correlationId: "text",
    causationId: "text",
    traceParent: "text",
    occurTime: "time",
    recordTime: "time",
    size: "int",
  },
  snapshot: { stream: "text", projection: "text", revision: "int64", state: "text", createTime: "time" },
  session: {
    ...OWNED,
    title: "text",
    metadata: "json",
    state: "text",
    status: "text",
    endReason: "text",
    revision: "int64",
    messageCount: "int64",
    inputTokens: "int64",
    outputTokens: "int64",
    ...DATED,
    activeTime: "time",
    endTime: "time?",
    ttlMs: "int64?",
    expireTime: "time",
  },
  message: {
    sessionId: "text",
    sequence: "int64",
    role: "text",
    body: "text",
    inputTokens: "int64?",
    outputTokens: "int64?",
    createTime: "time",
    size: "int",
  },
  // Before the records, so that whoever keeps the chain knows how far each day goes.
  auditDay: { day: "text", records: "int64", prevHash: "bytes", head: "bytes", retired: "bool" },
  auditRecord: {
    day: "text",
    sequence: "int64",
    id: "text",
    time: "time",
    recordTime: "time",
    actor: "text",
    action: "text",
    resourceType: "text",
    resourceId: "text",
    outcome: "text",
    ipAddress: "text",
    userAgent: "text",
    correlationId: "text",
    details: "text",
    prevHash: "bytes",
    hash: "bytes",
  },
  // A job that was running is queued again: leases stay behind.
  job: {
    id: "text",
    queue: "text",
    status: "text",
    priority: "int",
    availableTime: "time?",
    maxAttempts: "int",
    attempts: "int",
    attemptsLeft: "int",
    dedupeKey: "text?",
    backoff: "json",
    leaseMs: "int64",
    cancelRequested: "bool",
    payloadKind: "text?",
    payload: "bytes?",
    payloadType: "text?",
    payloadSize: "int",
    resultKind: "text?",
    result: "bytes?",
    resultType: "text?",
    resultSize: "int",
    progress: "text?",
    error: "text?",
    errorCode: "text?",
    costAmount: "text?",
    costCurrency: "text?",
    history: "json",
    createTime: "time",
    startTime: "time?",
    endTime: "time?",
    expireTime: "time?",
    revision: "int64",
  },
  usageEvent: {
    eventId: "text",
    meter: "text",
    quantity: "text",
    eventTime: "time",
    ...OWNED,
    dimensions: "json",
    bodyHash: "bytes",
    recordTime: "time",
  },
  // What the events of a month came to that are no longer kept.
  usageMonth: { meter: "text", month: "text", quantity: "text", largest: "text", events: "int64" },
  usageDay: { meter: "text", ...SUBJECT, day: "text", quantity: "text" },
  budget: {
    id: "text",
    meter: "text",
    period: "text",
    amount: "text",
    hard: "bool",
    ...SUBJECT,
    thresholds: "ints",
    revision: "int64",
    ...DATED,
  },
  reservation: {
    reservationId: "text",
    meter: "text",
    quantity: "text",
    ...OWNED,
    state: "text",
    settled: "text?",
    createTime: "time",
    expireTime: "time",
  },
  // In the order of the tenant's changes.
  configVersion: {
    key: "text",
    version: "int64",
    sequence: "int64",
    struct: "text?",
    binary: "bytes?",
    contentType: "text",
    deleted: "bool",
    description: "text",
    author: "text",
    createTime: "time",
    rollbackOf: "int64",
  },
  user: {
    id: "text",
    displayName: "text",
    email: "text",
    labels: "json",
    disabled: "bool",
    revision: "int64",
    ...DATED,
  },
  agent: {
    id: "text",
    displayName: "text",
    description: "text",
    userId: "text",
    labels: "json",
    metadata: "json",
    disabled: "bool",
    revision: "int64",
    ...DATED,
  },
  role: {
    id: "text",
    displayName: "text",
    description: "text",
    permissions: "texts",
    revision: "int64",
    ...DATED,
  },
  apiKey: {
    id: "text",
    name: "text",
    permissions: "texts",
    userId: "text",
    agentId: "text",
    secretHash: "bytes",
    previousHash: "bytes?",
    previousExpireTime: "time?",
    createTime: "time",
    expireTime: "time?",
    revokeTime: "time?",
    revision: "int64",
  },
  roleAssignment: { ...SUBJECT, roleId: "text", resource: "text", createTime: "time", creator: "text" },
  // Last: until then nobody finds the tenant.
  tenant: {
    id: "text",
    displayName: "text",
    labels: "json",
    status: "text",
    plan: "text",
    limits: "json",
    revision: "int64",
    ...DATED,
  },
} as const satisfies Record<string, Readonly<Record<string, FieldType>>>

/** One of {@link KINDS}. */
export type Kind = keyof typeof KINDS

type ValueOf<T> = T extends `${infer B extends keyof Values}?`
  ? Values[B] | null
  : T extends keyof Values
    ? Values[T]
    : never

/** An item of one kind. */
export type ItemOf<K extends Kind> = {
  readonly [F in keyof (typeof KINDS)[K]]: ValueOf<(typeof KINDS)[K][F]>
}

/** An item of some kind. */
export type Item = Readonly<Record<string, unknown>>

/** The kinds of each plane, in the order in which an archive has them. */
export const PLANES = {
  memory: ["collection", "record"],
  streams: ["stream", "event", "snapshot"],
  sessions: ["session", "message"],
  audit: ["auditDay", "auditRecord"],
  configs: ["configVersion"],
  jobs: ["job"],
  control: [
    "usageEvent",
    "usageMonth",
    "usageDay",
    "budget",
    "reservation",
    "user",
    "agent",
    "role",
    "apiKey",
    "roleAssignment",
    "tenant",
  ],
} as const satisfies Readonly<Record<string, readonly Kind[]>>

/** The fields of a kind with their types, in their order. */
export function fieldsOf(kind: Kind): readonly (readonly [name: string, type: FieldType])[] {
  return Object.entries(KINDS[kind])
}

/** The type without its `?`, and whether it had one. */
export function baseType(type: FieldType): { readonly base: keyof Values; readonly nullable: boolean } {
  const nullable = type.endsWith("?")
  // Cutting the mark off leaves a name of a value.
  return { base: (nullable ? type.slice(0, -1) : type) as keyof Values, nullable }
}
