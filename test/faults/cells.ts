/** The fault matrix as data: what can go wrong with which engine, and which cells are not played and why. */

/** What goes wrong. The text is the column of the table. */
export const FAULTS = {
  crash: "the server's processes are killed and started again",
  refused: "connections are reset, and nobody listens",
  hang: "the server's processes are stopped (SIGSTOP): connections are taken, nothing answers",
  blackhole: "nothing passes in either direction; what was sent arrives when the fault ends",
  slow: "everything takes 20 ms longer in each direction, some ten times what it took",
  reset: "the request arrives, and the connection is reset in place of the answer",
  "lost reply": "the request arrives, and nothing comes back over its connection any more",
  "read-only": "the server takes reads and refuses writes",
  full: "no disk or no memory is left",
  credential:
    "the login's password is changed, connections are cut, and later the daemon's file is changed, too",
  schema: "what the daemon keeps its data in is missing",
  "partial loss": "a part of the cluster is away",
  failover: "the server is gone for good, and its replica takes its place",
} as const

/** One of {@link FAULTS}. */
export type Fault = keyof typeof FAULTS

/** The engines. */
export const ENGINES = ["PostgreSQL", "Cassandra", "Redis", "Milvus"] as const

/** One of {@link ENGINES}. */
export type Engine = (typeof ENGINES)[number]

/** Cells that are not played, each with the reason. */
export const NOT_PLAYED: Readonly<Record<Engine, Partial<Record<Fault, string>>>> = {
  PostgreSQL: { "partial loss": "one server is the whole of it" },
  Cassandra: {
    "read-only": "it has no such mode; refusing the right to write is a matter of its login",
    full: "the node ends itself (disk_failure_policy: die), which is the cell `crash`",
    schema:
      "a keyspace cannot be taken away without its data; played in test/stores/cassandra.server.test.ts",
    failover:
      "clients choose another node by themselves; played in test/stores/cassandra.server.test.ts on a ring",
  },
  Redis: {
    schema: "it has none; scripts that are gone are taught again, held by the contract suites",
    "partial loss": "played on clusters in test/stores/redis.cluster.test.ts and redis.resharding.test.ts",
  },
  Milvus: {
    "read-only":
      "quotas that deny writes are the configuration of the server, which all test files share; Milvus Lite has none",
    full: "quotas that deny writes are the configuration of the server, which all test files share; Milvus Lite has none",
    "partial loss": "it needs a cluster; Milvus from a package registry is a single process",
    failover: "it needs a cluster; Milvus from a package registry is a single process",
    schema:
      "collections that are gone are made again and filled from the records, held by test/stores/milvus.mirrored.test.ts",
  },
}

/** What a cell showed. Times in milliseconds. */
export interface Row {
  readonly engine: Engine
  readonly fault: Fault
  /** `CODE REASON` of failed calls, and how many. */
  readonly failures: Readonly<Record<string, number>>
  /** How long after its deadline the latest answer came. */
  readonly lateMs: number
  /** Reads that were answered in a poorer way. */
  readonly degraded: number
  /** From the fault to the first success after the repair, the longest of all callers. */
  readonly unavailableMs: number
  /** From the repair to the first success, the longest of all callers. */
  readonly healedMs: number
  /** Writes that were acknowledged, that may have happened, and that did not. */
  readonly acknowledged: number
  readonly unknown: number
  readonly refused: number
  /** Acknowledged writes that are gone, where the engine may lose them; elsewhere the test fails. */
  readonly lost: number
  /** Calls to the other planes, all of which succeeded, and the 99th percentile of their times before and during the fault. */
  readonly others: { readonly calls: number; readonly beforeP99: number; readonly duringP99: number }
}

/** The cells of an engine that are played. */
export function cellsOf(engine: Engine): readonly Fault[] {
  return (Object.keys(FAULTS) as Fault[]).filter((fault) => NOT_PLAYED[engine][fault] === undefined)
}
