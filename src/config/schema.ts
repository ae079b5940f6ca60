/**
 * The shape of the configuration, the only place where keys, defaults and ranges are written. The JSON Schema, the
 * documentation, the names of environment variables and the meaning of flags all come from here.
 */
import { z } from "zod"
import { parseAddress } from "./address.ts"
import { count, text } from "./forms.ts"
import type { Secret } from "./secret.ts"
import { stores } from "./stores.ts"
import { retentionClasses } from "./tenant-classes.ts"

const address = text(260).refine((value) => parseAddress(value) !== undefined, {
  message: "must be host:port, for example 127.0.0.1:50051",
})

const listen = z
  .strictObject({
    data: z
      .union([address, z.literal("none")])
      .default("127.0.0.1:50051")
      .describe(
        "host:port of the API (gRPC, gRPC-Web, Connect and JSON). Port 0 takes a free one; `none` leaves only the Unix socket.",
      ),
    ops: z
      .union([address, z.literal("none")])
      .default("127.0.0.1:50052")
      .describe(
        "host:port of /livez, /readyz, /metrics and grpc.health.v1, in plaintext and without authentication. `none` turns it off.",
      ),
    unix: text(104)
      .optional()
      .describe(
        "Path of a Unix socket for the API, made with mode 0660. A socket left behind by a dead daemon is replaced.",
      ),
    reflection: z
      .boolean()
      .default(true)
      .describe("Serve gRPC reflection, so that grpcurl needs no proto file."),
    transport: z
      .enum(["http2", "grpc-js"])
      .default("http2")
      .describe(
        "What serves gRPC. `http2`: the daemon's own layer on node:http2. `grpc-js`: the library @grpc/grpc-js, which takes half as much CPU again, for a client that does not get on with the first.",
      ),
  })
  .prefault({})
  .describe("Where the daemon listens.")

const auth = z
  .strictObject({
    mode: z
      .enum(["none", "required"])
      .default("none")
      .describe(
        "`none`: on loopback and the Unix socket every caller is the tenant `default`. `required`: a token or an API key.",
      ),
    token_file: text(4096)
      .optional()
      .describe(
        "File with one platform token per line, at least 32 characters each. Read again when it changes; two lines rotate without a gap.",
      ),
    grace_ms: count(0, 86_400_000)
      .default(300_000)
      .describe(
        "How long API keys and tenants that were verified keep working while the control store is away. A revocation by another daemon is not seen meanwhile.",
      ),
  })
  .prefault({})
  .describe("Who may call.")

const share = z.number().min(0.01).max(1)

const limits = z
  .strictObject({
    message_bytes: count(65_536, 268_435_456)
      .default(4_194_304)
      .describe("Largest request or response message."),
    connections: count(1, 100_000).default(1_024).describe("Open connections over all listeners of the API."),
    streams_per_connection: count(1, 100_000)
      .default(1_024)
      .describe("Concurrent HTTP/2 streams on one connection."),
    session_memory_mb: count(8, 4_096)
      .default(256)
      .describe("Memory that one HTTP/2 session may hold, in mebibytes."),
    in_flight: count(1, 1_000_000)
      .default(4_096)
      .describe("Unary calls in flight in the whole daemon; more are refused with OVERLOADED."),
    in_flight_per_tenant: count(1, 1_000_000)
      .default(2_048)
      .describe("Unary calls in flight for one tenant."),
    streams_per_tenant: count(1, 1_000_000)
      .default(512)
      .describe("Open streams and long polls for one tenant."),
    fair_share_at: share
      .default(0.875)
      .describe(
        "Share of `in_flight`, 0 to 1, from which a tenant with more than its equal share of the calls is refused, so that the rest is left to others.",
      ),
    shed_at_memory: share
      .default(0.9)
      .describe(
        "Share of the memory, 0 to 1, from which new streams, and calls of tenants with more than their equal share, are refused with OVERLOADED. 1: never.",
      ),
    refuse_at_memory: share
      .default(0.95)
      .describe(
        "Share of the memory, 0 to 1, from which every call is refused with OVERLOADED but health checks and what operators need. 1: never.",
      ),
    depth: count(8, 512).default(64).describe("How deep messages, Structs and lists may nest."),
    default_deadline_ms: count(1, 86_400_000)
      .default(30_000)
      .describe("Deadline of a unary call whose client sent none."),
    max_deadline_ms: count(1, 86_400_000)
      .default(3_600_000)
      .describe("Longer deadlines of unary calls are shortened to this."),
  })
  .prefault({})
  .describe("How much a caller may ask.")

const namespace = z
  .strictObject({
    kind: z
      .enum(["value", "hash", "list", "sorted_set", "any"])
      .default("any")
      .describe("The only kind of key the namespace takes."),
    default_ttl_s: count(0, 315_360_000)
      .default(0)
      .describe("Life of a key whose writer sets none, in seconds; 0 keeps it."),
    max_length: count(1, 10_000_000).optional().describe("Most items, fields or members of one key."),
    max_entries: count(1, 100_000_000)
      .optional()
      .describe("Most keys of one tenant before the least recently used goes."),
    max_bytes: count(1_024, 1_099_511_627_776)
      .optional()
      .describe("Most bytes of one tenant before the least recently used goes."),
    refresh_on_read: z.boolean().default(false).describe("A read starts the life of a key again."),
    refresh_on_write: z
      .boolean()
      .default(false)
      .describe("A write to an existing collection or number starts its life again."),
  })
  .describe("Policy of one cache namespace.")

const cache = z
  .strictObject({
    max_bytes: count(1_048_576, 1_099_511_627_776)
      .default(268_435_456)
      .describe("Memory for all tenants together; the least recently used entries go first."),
    on_failure: z
      .enum(["miss", "error"])
      .default("miss")
      .describe(
        "What Get, BatchGet, HashGet, ListRange and SortedSetRange answer while the cache is away: a miss that says `degraded`, or the failure.",
      ),
    miss_after_ms: count(1, 600_000)
      .default(1_000)
      .describe(
        "With `on_failure: miss`, the longest time that these wait for a cache on a server. Below stores.cache.breaker.slow_ms a cache that hangs does not open its breaker.",
      ),
    namespaces: z
      .record(
        z.string().regex(/^[a-z0-9][a-z0-9._-]{0,62}$/, "must be 1 to 63 of a-z, 0-9, `.`, `_`, `-`"),
        namespace,
      )
      .default({})
      .describe(
        "More namespaces, or other policies for the built-in ones (context, tool-results, short-term-memory, metrics, session).",
      ),
    scripts: z
      .record(
        z.string().regex(/^[a-z0-9][a-z0-9._-]{0,127}$/, "must be 1 to 128 of a-z, 0-9, `.`, `_`, `-`"),
        text(4096),
      )
      .default({})
      .describe("Lua files for RunScript by name, read at start-up; a built-in script's name replaces it."),
  })
  .prefault({})
  .describe("Cache.")

const embedder = z
  .strictObject({
    kind: z.literal("openai").describe("Any endpoint that speaks OpenAI's /embeddings."),
    url: z.url({ protocol: /^https?$/ }).describe("Base URL; /embeddings is added."),
    model: text(256).describe("Name of the model, sent with each request."),
    dimension: count(1, 16_000).describe("Length of the vectors the model gives."),
    send_dimensions: z
      .boolean()
      .default(false)
      .describe("Send the dimension, which shortens the vectors of models that can."),
    api_key_file: text(4096)
      .optional()
      .describe("File with the key; read for each call, so it may be rotated."),
    batch: count(1, 2_048).default(64).describe("Most texts in one request."),
    timeout_ms: count(100, 600_000).default(10_000).describe("Longest wait for one request."),
    retries: count(0, 10).default(2).describe("Repetitions after 429, 5xx or a broken connection."),
  })
  .describe("How text becomes vectors.")

const memory = z
  .strictObject({
    embedders: z
      .record(
        z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, "must be 1 to 63 of a-z, 0-9, `_`, `-`"),
        embedder,
      )
      .default({})
      .describe(
        "Embedders by the name that collections use. `builtin-lexical-384` (hashed n-grams, no model, no network) exists without being listed.",
      ),
  })
  .prefault({})
  .describe("Memory.")

const retention = z
  .strictObject({
    sessions_days: count(1, 36_500)
      .default(30)
      .describe("Days a session is kept after its last change, unless it says otherwise."),
    jobs_days: count(1, 36_500)
      .default(365)
      .describe("Days a finished job is kept; at most 1825 where stores.events.job_history takes them."),
    jobs_queue_hours: count(0, 8_760)
      .default(24)
      .describe(
        "Hours a finished job stays in stores.control before stores.events.job_history takes it; 0: as soon as may be.",
      ),
    usage_months: count(0, 1_200)
      .default(0)
      .describe(
        "Whole months before this one, by the time of the event, of which each usage event is kept. Older ones leave a sum per tenant, meter and month, which GetUsage counts at the month's first instant, for no agent, user or session and without dimensions; budgets do not change. An event id is known as long as its event, or what was recorded when it was, is kept. 0: all are kept.",
      ),
    audit_years: count(7, 100).default(7).describe("Years an audit record is kept."),
    classes: retentionClasses,
  })
  .prefault({})
  .describe("How long data is kept.")

const telemetry = z
  .strictObject({
    log_level: z
      .enum(["debug", "info", "warn", "error", "silent"])
      .default("info")
      .describe("Least severe line that is written."),
    log_format: z
      .enum(["auto", "json", "pretty"])
      .default("auto")
      .describe("`auto`: pretty on a terminal, JSON lines elsewhere."),
    otlp_endpoint: z
      .url({ protocol: /^https?$/ })
      .optional()
      .describe(
        "Base URL of an OTLP/HTTP collector for traces; /v1/traces is added. Taken from OTEL_EXPORTER_OTLP_ENDPOINT as well. Unset: tracing is off.",
      ),
    trace_sample_ratio: z
      .number()
      .min(0)
      .max(1)
      .default(1)
      .describe("Share of calls without a sampled parent that are traced, 0 to 1."),
  })
  .prefault({})
  .describe("Logs and traces. Metrics are always on the ops port.")

const shutdown = z
  .strictObject({
    grace_ms: count(0, 600_000)
      .default(20_000)
      .describe("How long a drain waits for calls in flight before it cuts them."),
  })
  .prefault({})
  .describe("Stopping.")

const sagas = z
  .strictObject({
    lease_ms: count(100, 3_600_000)
      .default(30_000)
      .describe(
        "How long a daemon that died keeps others from the flows it had begun. One that lives renews it.",
      ),
    interval_ms: count(10, 600_000)
      .default(1_000)
      .describe("Pause between two looks for flows that are to go on."),
  })
  .prefault({})
  .describe(
    "Flows over several stores, which any daemon finishes: CreateAgent with what it needs, DeleteTenant, EraseSubject.",
  )

const faults = z
  .strictObject({
    unsafe: z
      .boolean()
      .default(false)
      .describe("Has to be true where there are rules, so that no daemon has faults by accident."),
    rules: z
      .string()
      .max(16_384)
      .default("")
      .describe(
        "Rules separated by `;`, e.g. `events/*/append nth=3 after; cache/*/* p=0.1 before; call=7 before`: store/port/method, a condition (nth, every, p, times, or call for the n-th of all calls), and before (nothing is done), after (the answer is lost), delay=MS or hang.",
      ),
    seed: count(0, 2_147_483_647)
      .optional()
      .describe("Of the random numbers; unset: another one at each start, which the log names."),
  })
  .prefault({})
  .describe(
    "Faults of stores, made in the daemon itself, for tests. Never for a daemon that anybody relies on.",
  )

/** The whole configuration. Input is what files and variables hold; output is {@link Config}. */
export const configSchema = z.strictObject({
  data_dir: text(4096)
    .default("./.keelplane")
    .describe("Folder of the embedded engines' data, made with mode 0700. One daemon at a time."),
  listen,
  auth,
  limits,
  stores,
  cache,
  memory,
  retention,
  sagas,
  telemetry,
  shutdown,
  faults,
})

type Frozen<T> = T extends Secret | string | number | boolean | undefined
  ? T
  : { readonly [K in keyof T]: Frozen<T[K]> }

/** The configuration as the daemon uses it: complete, checked, frozen. */
export type Config = Frozen<z.output<typeof configSchema>>

/** What protects the daemon from one store. */
export type ProtectionConfig = Pick<Config["stores"]["memory"], "breaker" | "bulkhead" | "retry">

/** Settings of one store that may be SQL. */
export type SqlStoreConfig = Config["stores"]["memory" | "events" | "control"]

/** The schema of what users write, as JSON Schema 2020-12. */
export function configJsonSchema(): Record<string, unknown> {
  return {
    title: "keelplane.yaml",
    description: "Configuration of the keelplane daemon.",
    ...z.toJSONSchema(configSchema, { io: "input", target: "draft-2020-12" }),
  }
}
