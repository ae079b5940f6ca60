/** Rules between keys: each value is fine by itself, together they would be unsafe or could not work. */
import { accessSync, constants } from "node:fs"
import { isLoopback, parseAddress } from "./address.ts"
import type { Config } from "./schema.ts"
import { isCluster, keepsJobHistory } from "./stores.ts"
import { sharedTenants } from "./tenant-classes.ts"

/** A broken rule: the key to complain about and what is wrong. */
export interface BrokenRule {
  readonly path: readonly string[]
  readonly message: string
}

type Rule = (config: Config) => readonly BrokenRule[]

const breakWhen = (broken: boolean, path: readonly string[], message: string): readonly BrokenRule[] =>
  broken ? [{ path, message }] : []

const listening: Rule = ({ listen, auth }) => {
  const data = parseAddress(listen.data)
  const ops = parseAddress(listen.ops)
  return [
    ...breakWhen(
      data !== undefined && !isLoopback(data.host) && auth.mode === "none",
      ["listen", "data"],
      "is reachable from other machines while auth.mode is none; use a loopback address or set auth.mode to required",
    ),
    ...breakWhen(
      data !== undefined && ops !== undefined && data.port !== 0 && data.port === ops.port,
      ["listen", "ops"],
      "has the port of listen.data; the two need ports of their own",
    ),
    ...breakWhen(
      listen.data === "none" && listen.unix === undefined,
      ["listen", "data"],
      "is none and listen.unix is not set, so nothing could reach the daemon",
    ),
  ]
}

const authentication: Rule = ({ auth }) => [
  ...breakWhen(
    auth.mode === "required" && auth.token_file === undefined,
    ["auth", "token_file"],
    "is needed with auth.mode required: it is the first credential, with which API keys are made",
  ),
  ...breakWhen(
    auth.mode === "none" && auth.token_file !== undefined,
    ["auth", "token_file"],
    "has no effect while auth.mode is none; set auth.mode to required or remove it",
  ),
  ...unreadable(["auth", "token_file"], auth.token_file),
]

const limiting: Rule = ({ limits }) => [
  ...breakWhen(
    limits.default_deadline_ms > limits.max_deadline_ms,
    ["limits", "default_deadline_ms"],
    "is larger than limits.max_deadline_ms",
  ),
  ...breakWhen(
    limits.in_flight_per_tenant > limits.in_flight,
    ["limits", "in_flight_per_tenant"],
    "is larger than limits.in_flight",
  ),
  ...breakWhen(
    limits.shed_at_memory > limits.refuse_at_memory,
    ["limits", "shed_at_memory"],
    "is larger than limits.refuse_at_memory",
  ),
]

const STORES = ["memory", "vectors", "events", "control", "cache"] as const

const storing: Rule = ({ stores }) =>
  STORES.flatMap((name) => {
    const { url, password_file, breaker, retry } = stores[name]
    const here = url.reveal() === "embedded" || url.reveal() === "none"
    return [
      ...breakWhen(
        here && password_file !== undefined,
        ["stores", name, "password_file"],
        `has no effect with the url "${url.reveal()}"`,
      ),
      ...breakWhen(
        password_file !== undefined && !here && hasPassword(url.reveal()),
        ["stores", name, "password_file"],
        "and a password in the url exclude each other",
      ),
      ...unreadable(["stores", name, "password_file"], password_file),
      ...breakWhen(
        breaker.probe_min_ms > breaker.probe_max_ms,
        ["stores", name, "breaker", "probe_min_ms"],
        "is larger than probe_max_ms",
      ),
      ...breakWhen(
        retry.base_ms > retry.max_ms,
        ["stores", name, "retry", "base_ms"],
        "is larger than max_ms",
      ),
    ]
  })

const pooling: Rule = ({ stores }) =>
  (["memory", "events", "control"] as const).flatMap((name) => {
    const { pool_min, pool_max, pooler, migration_url } = stores[name]
    return [
      ...breakWhen(pool_min > pool_max, ["stores", name, "pool_min"], "is larger than pool_max"),
      ...breakWhen(
        pooler === "transaction" && migration_url === undefined,
        ["stores", name, "migration_url"],
        "is needed with pooler: transaction, for the schema cannot be changed through it",
      ),
    ]
  })

const placing: Rule = ({ stores: { events }, retention }) => [
  ...breakWhen(
    events.configs && !isCluster(events),
    ["stores", "events", "configs"],
    "needs a cassandra:// url in stores.events.url; in an SQL database configuration lives in stores.control",
  ),
  ...breakWhen(
    events.job_history === true && !isCluster(events),
    ["stores", "events", "job_history"],
    "needs a cassandra:// url in stores.events.url; beside an SQL database finished jobs stay in stores.control",
  ),
  ...tooLong(events, retention.jobs_days, ["retention"]),
]

/** Cassandra before 5.0 takes no time to live that ends after January 2038. */
const JOB_HISTORY_DAYS = 1_825

const tooLong = (
  events: Config["stores"]["events"],
  days: number | undefined,
  path: readonly string[],
): readonly BrokenRule[] =>
  breakWhen(
    keepsJobHistory(events) && days !== undefined && days > JOB_HISTORY_DAYS,
    [...path, "jobs_days"],
    `is longer than stores.events.job_history keeps jobs (${JOB_HISTORY_DAYS} days); set that to false or keep them for less`,
  )

const classifying: Rule = ({ stores: { events }, retention: { classes } }) => [
  ...sharedTenants(classes).map(({ name, other, tenants }) => ({
    path: ["retention", "classes", name, "tenants"],
    message: `has "${tenants}", but retention.classes.${other} has tenants of these, too, and a tenant is in one class at most`,
  })),
  ...Object.entries(classes).flatMap(([name, { jobs_days }]) =>
    tooLong(events, jobs_days, ["retention", "classes", name]),
  ),
]

const caching: Rule = ({ cache }) => [
  ...Object.entries(cache.scripts).flatMap(([name, file]) => unreadable(["cache", "scripts", name], file)),
  ...Object.entries(cache.namespaces).flatMap(([name, policy]) => [
    ...breakWhen(
      policy.max_bytes !== undefined && policy.max_bytes > cache.max_bytes,
      ["cache", "namespaces", name, "max_bytes"],
      "is larger than cache.max_bytes",
    ),
    ...breakWhen(
      policy.max_length !== undefined && policy.kind === "value",
      ["cache", "namespaces", name, "max_length"],
      "applies to lists, hashes and sorted sets only",
    ),
  ]),
]

const embedding: Rule = ({ memory }) =>
  Object.entries(memory.embedders).flatMap(([name, embedder]) => [
    ...unreadable(["memory", "embedders", name, "api_key_file"], embedder.api_key_file),
    ...breakWhen(
      embedder.api_key_file !== undefined && plainAndRemote(embedder.url),
      ["memory", "embedders", name, "url"],
      "would send the API key unencrypted; use https",
    ),
  ])

const faulting: Rule = ({ faults, listen }) => {
  const data = parseAddress(listen.data)
  return [
    ...breakWhen(
      faults.rules !== "" && !faults.unsafe,
      ["faults", "rules"],
      "makes stores fail on purpose and is taken only with faults.unsafe: true",
    ),
    ...breakWhen(
      faults.unsafe && data !== undefined && !isLoopback(data.host),
      ["faults", "unsafe"],
      "is for tests and is refused where listen.data is reachable from other machines",
    ),
  ]
}

const RULES: readonly Rule[] = [
  listening,
  authentication,
  limiting,
  storing,
  pooling,
  placing,
  classifying,
  caching,
  embedding,
  faulting,
]

/** Every rule that `config` breaks. */
export function brokenRules(config: Config): readonly BrokenRule[] {
  return RULES.flatMap((rule) => rule(config))
}

function unreadable(path: readonly string[], file: string | undefined): readonly BrokenRule[] {
  if (file === undefined) return []
  try {
    accessSync(file, constants.R_OK)
    return []
  } catch (error) {
    return [{ path, message: `names a file that cannot be read: ${(error as NodeJS.ErrnoException).code}` }]
  }
}

/** By the text itself: a URL with several hosts is none to the parser. */
function hasPassword(url: string): boolean {
  return /^[^:]+:\/\/[^/?#@]*:[^/?#@]+@/.test(url)
}

function plainAndRemote(url: string): boolean {
  const parsed = new URL(url)
  return parsed.protocol === "http:" && !isLoopback(parsed.hostname.replace(/^\[|\]$/g, ""))
}
