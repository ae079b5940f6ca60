/** The part of the schema that says which engine serves which store. */
import { z } from "zod"
import { count, text } from "./forms.ts"
import { Secret, secretUrl } from "./secret.ts"

const breaker = z
  .strictObject({
    enabled: z.boolean().default(true).describe("False never refuses a call because of earlier failures."),
    error_percent: count(1, 99)
      .default(50)
      .describe("Share of failed calls in the window above which the breaker opens."),
    volume: count(20, 100_000)
      .default(20)
      .describe("Calls in the window below which the breaker never opens."),
    window_ms: count(1_000, 600_000).default(10_000).describe("Length of the rolling window."),
    probe_min_ms: count(10, 600_000)
      .default(500)
      .describe("Pause before the first probe of an open breaker, before jitter."),
    probe_max_ms: count(10, 3_600_000)
      .default(30_000)
      .describe("Longest pause between probes; each failure doubles it up to here."),
    probe_timeout_ms: count(10, 600_000).default(2_000).describe("How long a probe may take."),
    slow_ms: count(1, 600_000)
      .default(1_000)
      .describe(
        "A call that its deadline ended counts against the store only when the store had it for at least this long.",
      ),
  })
  .prefault({})
  .describe("Circuit breaker, one for reads and one for writes.")

const bulkhead = z
  .strictObject({
    concurrency: count(1, 100_000).default(256).describe("Most calls that are with the store at a time."),
    queue: count(0, 1_000_000)
      .default(1_024)
      .describe("Most calls that wait for that; more are refused with OVERLOADED."),
    wait_ms: count(1, 600_000)
      .default(2_000)
      .describe("Longest wait; then the call is refused with OVERLOADED."),
  })
  .prefault({})
  .describe(
    "How much of the daemon the store can hold, for reads and for writes apart. A call counts until the store's work has ended, even if its caller has given up.",
  )

const retry = z
  .strictObject({
    attempts: count(1, 5)
      .default(3)
      .describe(
        "Most attempts of a read, or of a write with a request_id, that failed because of the store; 1 repeats nothing.",
      ),
    base_ms: count(1, 60_000)
      .default(20)
      .describe("Pause before the first repetition, before jitter; each further one doubles it."),
    max_ms: count(1, 600_000).default(250).describe("Longest pause."),
    budget_tokens: count(2, 100_000)
      .default(100)
      .describe(
        "Size of the budget: a failure takes one token, and nothing is repeated while half of them or less are left.",
      ),
    budget_per_success: z
      .number()
      .min(0.001)
      .max(1)
      .default(0.1)
      .describe("Part of a token that a success gives back, 0.001 to 1."),
  })
  .prefault({})
  .describe("Repetition of calls within the daemon, never past their deadline.")

const protection = { breaker, bulkhead, retry }

/** A word that stands for no server, or a URL of one of `schemes`. */
const engineUrl = (word: string, schemes: RegExp, wanted: string) =>
  z
    .union([z.literal(word), z.string().regex(schemes, `must be \`${word}\`, ${wanted}`)])
    .default(word)
    .transform((value) => (value === word ? new Secret(value, value) : secretUrl(value)))

const engineSecret = () =>
  z
    .string()
    .regex(/^postgres(ql)?:\/\/.*/, "must be postgres://...")
    .optional()
    .transform((value) => (value === undefined ? undefined : secretUrl(value)))

const POSTGRES =
  "postgres://user@host/database (what is missing comes from the environment variables of libpq, PGHOST and so on)"
const HIDDEN = "A password in it is never shown; password_file is better."

const pool = {
  pool_min: count(0, 1_000).default(0).describe("Connections to a PostgreSQL server kept although idle."),
  pool_max: count(1, 1_000).default(10).describe("Most connections to a PostgreSQL server."),
  pool_idle_ms: count(1_000, 86_400_000)
    .default(60_000)
    .describe("An idle connection above pool_min is closed after this."),
  pool_lifetime_ms: count(1_000, 86_400_000)
    .default(1_800_000)
    .describe("A connection is replaced after this."),
  pool_acquire_ms: count(1, 600_000).default(5_000).describe("Longest wait for a free connection."),
  pool_waiting: count(0, 1_000_000).default(4_096).describe("Most calls that wait for a connection."),
  connect_timeout_ms: count(1, 600_000).default(5_000).describe("Longest time to connect."),
  pooler: z
    .enum(["none", "transaction"])
    .default("none")
    .describe(
      "`transaction`: the url leads to PgBouncer, or its like, in transaction mode. Nothing is kept on a connection then; needs migration_url.",
    ),
  prepare: z
    .enum(["named", "unnamed"])
    .optional()
    .describe(
      "Whether statements are prepared by name. `named` by default, `unnamed` behind a pooler; poolers from PgBouncer 1.21 on can keep named ones.",
    ),
  migration_url: engineSecret().describe(
    "Where the schema is brought up to date: a login that owns it, or the server itself behind a pooler. The url by default.",
  ),
}

const password = text(4096).optional().describe("File with the password; read at each new connection.")

const sqlStore = (covers: string) =>
  z
    .strictObject({
      url: engineUrl("embedded", /^postgres(ql)?:\/\/.*/, "or postgres://...").describe(
        `\`embedded\` (PostgreSQL inside the daemon, under data_dir) or ${POSTGRES}. ${HIDDEN}`,
      ),
      password_file: password,
      ...pool,
      ...protection,
    })
    .prefault({})
    .describe(
      `Where ${covers} live. Stores with the same url share one pool of the largest size that is asked for.`,
    )

const events = z
  .strictObject({
    url: engineUrl(
      "embedded",
      /^(postgres(ql)?:\/\/.*|(cassandra|scylla):\/\/.+)/,
      "postgres://... or cassandra://...",
    ).describe(
      `\`embedded\`, ${POSTGRES}, or cassandra://user@host1,host2/keyspace?dc=datacenter1&replication=3 (scylla:// is the same). ${HIDDEN}`,
    ),
    password_file: password,
    configs: z
      .boolean()
      .default(false)
      .describe(
        "True keeps the versions of ControlService's configuration here too, where this is Cassandra; versions that are in stores.control already are not seen then.",
      ),
    job_history: z
      .boolean()
      .optional()
      .describe(
        "Whether finished jobs move here from stores.control, where this is Cassandra, `retention.jobs_queue_hours` after their end. Unset: true there. Those that have moved are not seen while it is false.",
      ),
    ...pool,
    ...protection,
  })
  .prefault({})
  .describe("Where streams, sessions and the audit log live.")

/** Whether the store `events` is a cluster. */
export function isCluster({ url }: { readonly url: Secret }): boolean {
  return /^(cassandra|scylla):/.test(url.reveal())
}

/** Whether finished jobs move to the store `events`. */
export function keepsJobHistory(events: {
  readonly url: Secret
  readonly job_history?: boolean | undefined
}): boolean {
  return isCluster(events) && events.job_history !== false
}

const vectors = z
  .strictObject({
    url: engineUrl("none", /^milvus:\/\/.+/, "or milvus://...").describe(
      `\`none\` (vectors are searched where records live) or milvus://user@host:19530/database. ${HIDDEN}`,
    ),
    password_file: password,
    ...protection,
  })
  .prefault({})
  .describe("Which index searches the vectors of collections that are mirrored to it or live in it.")

const cache = z
  .strictObject({
    url: engineUrl(
      "embedded",
      /^rediss?(\+(cluster|sentinel))?:\/\/.+/,
      "redis://..., rediss://..., redis+cluster://... or redis+sentinel://...",
    ).describe(
      `\`embedded\` (inside the daemon; lost at a restart, as a cache may be), redis://user@host:6379, redis+cluster://host1,host2, redis+sentinel://host1,host2/name, or with TLS rediss. ${HIDDEN}`,
    ),
    password_file: text(4096).optional().describe("File with the password; read at each new connection."),
    ...protection,
  })
  .prefault({})
  .describe("Where cached values, channels and rate limits live.")

/** The section `stores`. */
export const stores = z
  .strictObject({
    memory: sqlStore("collections and records"),
    vectors,
    events,
    control: sqlStore("tenants, keys, billing, jobs and locks"),
    cache,
  })
  .prefault({})
  .describe("Which engine serves which store.")
