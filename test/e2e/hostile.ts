/** Hostile requests, made from good ones: every text and number in them, at every depth, in turn replaced by what breaks careless code. */
import type { JsonValue } from "@bufbuild/protobuf"

type Json = Record<string, JsonValue>

/** Ways into a request. */
type Path = readonly (string | number)[]

/** One hostile request: what was done to the good one. */
export interface Hostility {
  readonly rpc: string
  readonly what: string
  /** Makes it of a good request of that RPC. */
  readonly of: (good: JsonValue) => JsonValue
}

const TEXTS: readonly string[] = [
  "",
  " lead and trail ",
  "it's",
  `'; drop table keelplane.events; --`,
  `" or "" = "`,
  "back\\slash",
  "a\u0000b",
  "line\nbreak",
  // One name to a reader, two to a computer.
  "caf\u00e9",
  "cafe\u0301",
  "\ufb01\u212b",
  "\u202eltr",
  "\ufeffbom",
  "\u{1f600}",
  "*?[a-z]%_{tag}",
  "../../etc/passwd",
  "__proto__",
  "NaN",
  "-0",
  "9007199254740993",
  "9223372036854775808",
  "x".repeat(129),
  "é".repeat(300),
  "x".repeat(70_000),
]

const NUMBERS: readonly JsonValue[] = [
  0,
  -1,
  1e-320,
  1e308,
  2_147_483_647,
  "9007199254740993",
  "9223372036854775807",
  "-9223372036854775808",
  "NaN",
  "Infinity",
  "-Infinity",
]

const FILTERS: readonly string[] = [
  'metadata.lang = "it\'s"',
  'metadata.lang = "say \\"a\\""',
  'metadata.lang = "a\\\\"',
  "metadata.lang = 'en'",
  'metadata.lang = "a\u0000b"',
  'metadata.lang = "caf\u00e9"',
  'metadata.lang = "cafe\u0301"',
  'metadata.a\u0301 = "x"',
  "metadata.n = 9007199254740993",
  "metadata.n = 9223372036854775808",
  "metadata.n > 1e400",
  "metadata.n = NaN",
  "metadata.n = -0",
  'metadata.n = "1"',
  "metadata.lang = 1",
  "metadata.lang",
  'metadata."la ng" = "x"',
  'metadata.__proto__ = "x"',
  "id = \"one' or '1' = '1\"",
  `metadata.lang = "${"x".repeat(20_000)}"`,
  `${"(".repeat(300)}metadata.n = 1${")".repeat(300)}`,
  `metadata.n in (${Array.from({ length: 3_000 }, (_, n) => n).join(", ")})`,
  'metadata.lang = "en" or true',
  'metadata.lang = "en"; metadata.n = 1',
  "NOT NOT NOT metadata.n = 1",
]

function* leaves(value: JsonValue, path: Path = []): Generator<readonly [Path, JsonValue]> {
  if (Array.isArray(value)) for (const [at, each] of value.entries()) yield* leaves(each, [...path, at])
  else if (value !== null && typeof value === "object")
    for (const [name, each] of Object.entries(value)) yield* leaves(each, [...path, name])
  else yield [path, value]
}

function withValue(value: JsonValue, [step, ...rest]: Path, leaf: JsonValue): JsonValue {
  if (step === undefined) return leaf
  if (Array.isArray(value)) return value.map((each, at) => (at === step ? withValue(each, rest, leaf) : each))
  const object = value as Json
  return { ...object, [step]: withValue(object[step] ?? null, rest, leaf) }
}

/** Without a request_id, so that it is no repetition of another call. */
function unrepeated(request: JsonValue): JsonValue {
  const { requestId: _, ...rest } = request as Json
  return rest
}

/** Every text and number of a good request, in turn. */
export function* hostilities(rpc: string, good: JsonValue): Generator<Hostility> {
  for (const [path, leaf] of leaves(good)) {
    const values = typeof leaf === "number" ? NUMBERS : typeof leaf === "string" ? [...TEXTS, ...NUMBERS] : []
    for (const value of path.at(-1) === "filter" ? [...values, ...FILTERS] : values) {
      const what = `${path.join(".")} = ${JSON.stringify(value).slice(0, 60)}`
      yield { rpc, what, of: (request) => withValue(unrepeated(request), path, value) }
    }
  }
}

const vector = (...values: readonly number[]): JsonValue => ({
  packed: Buffer.from(new Float32Array(values).buffer).toString("base64"),
})

const METADATA: readonly JsonValue[] = [
  { "a\u0000b": 1 },
  { "": 1 },
  { "it's": 1, 'say "a"': 2 },
  { __proto__x: 1, constructor: { prototype: 1 } },
  { "caf\u00e9": 1, "cafe\u0301": 2 },
  { n: 9_007_199_254_740_992, m: -9_007_199_254_740_994 },
  { n: 1e308, m: -0, l: 5e-324 },
  { text: "a\u0000b" },
  { long: "x".repeat(70_000) },
  { ["k".repeat(600)]: 1 },
  { deep: Array.from({ length: 60 }).reduce<JsonValue>((inner) => ({ a: inner }), 1) },
  { wide: Array.from({ length: 5_000 }, (_, n) => n) },
]

const VECTORS: readonly JsonValue[] = [
  vector(1, Number.NaN, 0),
  vector(1, Number.POSITIVE_INFINITY, 0),
  vector(0, 0, 0),
  vector(3e38, 3e38, 3e38),
  vector(1e-42, 0, 0),
  vector(1, 2),
  { packed: "AAA=" },
  { values: { values: [1, "NaN", 0] } },
  { values: { values: [1e39, 0, 0] } },
  { values: {} },
]

const REQUESTS: readonly (readonly [rpc: string, request: JsonValue])[] = [
  ...VECTORS.flatMap((one): [string, JsonValue][] => [
    ["MemoryService/UpsertRecords", { collectionId: "hostile", records: [{ id: "v", vector: one }] }],
    ["MemoryService/Search", { collectionId: "hostile", query: { vector: one, k: 3 } }],
  ]),
  ...METADATA.flatMap((metadata): [string, JsonValue][] => [
    [
      "MemoryService/UpsertRecords",
      { collectionId: "hostile", records: [{ id: "m", vector: vector(1, 2, 3), metadata }] },
    ],
    ["MemoryService/GetRecords", { collectionId: "hostile", ids: ["m"] }],
    ["EventService/AppendEvents", { stream: "hostile-1", events: [{ type: "t", json: metadata }] }],
    ["ControlService/PutConfig", { key: "hostile", structValue: metadata as Json }],
    ["CacheService/Set", { key: "hostile", json: metadata }],
    ["JobService/EnqueueJob", { job: { queue: "hostile", payload: { data: metadata } } }],
  ]),
  ...TEXTS.flatMap((text): [string, JsonValue][] => [
    [
      "MemoryService/UpsertRecords",
      { collectionId: "hostile", records: [{ id: text, vector: vector(1, 2, 3) }] },
    ],
    ["MemoryService/GetRecords", { collectionId: "hostile", ids: [text] }],
    ["EventService/AppendEvents", { stream: text, events: [{ type: "t" }] }],
    ["EventService/ReadStream", { stream: text }],
    ["CacheService/Set", { key: text, text }],
    ["CacheService/Get", { key: text }],
    ["ControlService/PutConfig", { key: text, structValue: {} }],
    ["ControlService/GetConfig", { key: text }],
    ["SessionService/CreateSession", { session: { sessionId: text, agentId: "a", userId: text } }],
    ["SessionService/ListSessions", { userId: text }],
    ["AuditService/QueryAudit", { query: { actor: text } }],
  ]),
  ["MemoryService/ListRecords", { collectionId: "hostile" }],
  ["EventService/ListStreams", {}],
  ["CacheService/ListKeys", {}],
  ["ControlService/ListConfigs", {}],
]

/** What no leaf of a good request leads to. {@link COLLECTION} must be there. */
export const HOSTILE: readonly Hostility[] = REQUESTS.map(([rpc, request]) => ({
  rpc,
  what: JSON.stringify(request).slice(0, 200),
  of: () => request,
}))

/** The request that makes what {@link HOSTILE} asks for. */
export const COLLECTION: JsonValue = { collection: { id: "hostile", dimension: 3 } }
