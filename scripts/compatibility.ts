/**
 * docs/compatibility.md: which suites run on which engines. Read out of the test files themselves, and out of the table of exceptions
 * that these take their skips from.
 */
import { readdirSync, readFileSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"
import { EXCEPTIONS, PGLITE_SKIPS } from "../test/contract/exceptions.ts"

const root = dirname(dirname(fileURLToPath(import.meta.url)))

/** An engine as tests have it, and what says in a test file that its suites run on it. */
interface TestedEngine {
  readonly name: string
  readonly version: string
  readonly files: RegExp
  readonly mark: RegExp
  /** How it is had for tests. */
  readonly source: string
  /** The engine's name in the table of exceptions, where several versions share it. */
  readonly kind?: string
}

const EVERY_SQL = /\bonSqlEngines\(/

const BUILT = "a pinned package, pgvector compiled from Debian's source"

const POSTGRES = [
  ["18", "18.4", "pinned packages, or the server of `KEELPLANE_TEST_POSTGRES_URL`"],
  ["17", "17.10", BUILT],
  ["16", "16.14", "pinned packages"],
  ["15", "15.18", BUILT],
] as const

const ENGINES: readonly TestedEngine[] = [
  {
    name: "in process",
    version: "this version's own",
    files: /^inprocess\./,
    mark: /createInProcessEngines|InProcess\w+\(/,
    source: "part of the daemon",
  },
  {
    name: "PGlite",
    version: "0.5.14 (PostgreSQL 18.6), pgvector 0.8",
    files: /^postgres\./,
    mark: EVERY_SQL,
    source: "part of the daemon",
  },
  ...POSTGRES.map(([major, version, source]) => ({
    name: `PostgreSQL ${major}`,
    version: `${version}, pgvector 0.8`,
    files: /^postgres\./,
    mark: EVERY_SQL,
    source,
  })),
  {
    name: "PgBouncer",
    version: "the system's, transaction mode, PostgreSQL behind it",
    files: /^postgres\./,
    mark: /sqlEnginesAndPooler\(/,
    source: "the system's package manager",
  },
  {
    name: "Cassandra 5.0",
    version: "5.0.6, one node and rings of three",
    files: /^cassandra\.(?!earlier)/,
    mark: /testCassandra\(/,
    source: "pinned Maven packages and Java 17, or the cluster of `KEELPLANE_TEST_CASSANDRA_URL`",
  },
  {
    name: "Cassandra 4.1",
    version: "4.1.10, one node",
    files: /^cassandra\.earlier\./,
    mark: /testCassandra\(/,
    source: "pinned Maven packages and Java 17",
  },
  ...["Valkey 9", "Redis 7"].flatMap((server) => [
    {
      name: server,
      version: server === "Redis 7" ? "7.0.15" : "9.1",
      files: /^redis\./,
      mark: /\bredisKinds\b/,
      source: `${server === "Redis 7" ? "Debian 12's package" : "a pinned package"}, or the server of \`KEELPLANE_TEST_REDIS_URL\``,
      kind: "Redis, Valkey",
    },
    {
      name: `${server} (cluster)`,
      version: "the same, three masters",
      files: /^redis\./,
      mark: /\bclusterKinds\b/,
      source: "the same program, or `KEELPLANE_TEST_REDIS_CLUSTER_URL`",
      kind: "Redis, Valkey",
    },
  ]),
  {
    name: "Milvus (DIRECT)",
    version: "2.3.5 standalone, Milvus Lite 3.2.2",
    files: /^milvus\./,
    mark: /milvusSuites\(\w+, "DIRECT"\)|tenantEraserContract\(/,
    source: "pinned packages, or the server of `KEELPLANE_TEST_MILVUS_URL`",
  },
  {
    name: "Milvus (MIRRORED)",
    version: "2.3.5 standalone",
    files: /^milvus\./,
    mark: /milvusSuites\(\w+, "MIRRORED"\)/,
    source: "the same",
  },
]

/** What nobody has run, and how to. */
const NOT_RUN: readonly (readonly [string, string])[] = [
  [
    "ScyllaDB",
    "KEELPLANE_TEST_CASSANDRA_URL=cassandra://127.0.0.1:9042 npm test -- stores/cassandra e2e/mixes",
  ],
  ["Dragonfly, Redis 8 or later", "KEELPLANE_TEST_REDIS_URL=redis://127.0.0.1:6379 npm test -- stores/redis"],
  [
    "a cluster of Dragonfly or Redis 8, or a hosted one",
    "KEELPLANE_TEST_REDIS_CLUSTER_URL=redis+cluster://127.0.0.1:7000 npm test -- stores/redis.cluster",
  ],
  [
    "Milvus 2.4, 2.5, 2.6, and Milvus as a cluster",
    "KEELPLANE_TEST_MILVUS_URL=milvus://127.0.0.1:19530 npm test -- stores/milvus e2e/mixes",
  ],
  [
    "services built on PostgreSQL",
    "KEELPLANE_TEST_POSTGRES_URL=postgres://postgres@127.0.0.1/postgres npm test -- stores/postgres stores/database",
  ],
  ["arm64", "npm ci && npm test (on such a machine; there is no packaged Milvus 2.3.5 for it)"],
]

/** Limits that an engine has by itself. */
const LIMITS: readonly (readonly [string, string])[] = [
  [
    "in process",
    "lost at a restart; one daemon; an interpreter of Lua 5.4 for scripts, bounded by instructions",
  ],
  ["PGlite", "one connection, one daemon per data directory; a running statement cannot be stopped"],
  [
    "PostgreSQL",
    "pgvector 0.8, created by a superuser beforehand where the login is none; 2,000 dimensions under an index, 4,000 at half precision",
  ],
  [
    "Cassandra",
    "all or nothing within one stream, session or log only; daemons of one data centre; appends of a tenant pass through one chain, some hundred groups a second; a session is one partition",
  ],
  [
    "Redis, Valkey",
    "a failover loses the last writes, acknowledged ones too; a request_id is remembered where its keys lie, so that one used again for another topic, limit or namespace is not found out; scripts in Lua 5.1 without a limit of instructions, with numbers that are doubles",
  ],
  [
    "Redis, Valkey (cluster)",
    "an atomic Execute, a script and the limits of one call need keys of one entity (`{agent-7}:plan`), else UNSUPPORTED_BY_ENGINE; a namespace with a capacity lives on one node",
  ],
  [
    "Milvus",
    "COSINE, L2 and INNER_PRODUCT; 16,000 dimensions; collections of mode DIRECT take no `if_revision`, and have no fallback",
  ],
]

interface TestFile {
  readonly name: string
  readonly text: string
}

function testFiles(): readonly TestFile[] {
  const folder = join(root, "test/stores")
  const shared = readFileSync(join(root, "test/engines/milvus-suites.ts"), "utf8")
  return readdirSync(folder)
    .filter((name) => name.endsWith(".test.ts"))
    .sort()
    .map((name) => {
      const own = readFileSync(join(folder, name), "utf8")
      return { name, text: /milvusSuites\(/.test(own) ? own + shared : own }
    })
}

/** The suites that a file registers, by the names of their files. */
function suitesOf(text: string): readonly string[] {
  return [...text.matchAll(/import \{([^}]*)\} from "\.\.\/contract\/([\w-]+)\.contract\.ts"/g)].flatMap(
    ([, names = "", suite = ""]) =>
      names.split(",").some((name) => {
        const bare = name.trim()
        return bare.endsWith("Contract") && new RegExp(`\\b${bare}\\(`).test(text.replace(/^import.*$/gm, ""))
      })
        ? [suite]
        : [],
  )
}

/** The suites that run on each engine, in the order of {@link ENGINES}. */
export function suitesByEngine(): ReadonlyMap<string, ReadonlySet<string>> {
  const files = testFiles()
  return new Map(
    ENGINES.map(({ name, files: mine, mark }) => [
      name,
      new Set(
        files
          .filter((file) => mine.test(file.name) && mark.test(file.text))
          .flatMap(({ text }) => suitesOf(text)),
      ),
    ]),
  )
}

/** The engines that exceptions under a name are for. */
export function enginesOf(kind: string): readonly string[] {
  return ENGINES.flatMap((engine) => ((engine.kind ?? engine.name) === kind ? [engine.name] : []))
}

/** Every suite there is. */
export function allSuites(): readonly string[] {
  return readdirSync(join(root, "test/contract"))
    .flatMap((name) => (name.endsWith(".contract.ts") ? [name.slice(0, -".contract.ts".length)] : []))
    .sort()
}

/** The page. */
export function compatibilityPage(): string {
  const byEngine = suitesByEngine()
  const run = new Set([...byEngine.values()].flatMap((suites) => [...suites]))
  const names = [...byEngine.keys()]
  const mark = (engine: string, suite: string) => {
    if (byEngine.get(engine)?.has(suite) !== true) return ""
    const kind = ENGINES.find(({ name }) => name === engine)?.kind ?? engine
    return EXCEPTIONS.some((each) => each.engine === kind && each.suite === suite) ? "with exceptions" : "yes"
  }
  const row = (cells: readonly string[]) => `| ${cells.join(" | ")} |`
  const table = (head: readonly string[], rows: readonly (readonly string[])[]) =>
    [row(head), row(head.map(() => "---")), ...rows.map(row)].join("\n")
  return `# Compatibility

<!-- Generated by scripts/docs.ts from the files in test/stores and test/contract/exceptions.ts. -->

What \`npm test\` runs. A suite in \`test/contract\` knows a port and no engine; each engine is held to the same suites, and what it cannot do
is named below with the reason. An engine that cannot be had on a machine is left out with a printed reason; where \`CI\` is set
that fails the run.

## Engines

${table(
  ["engine", "version", "comes from"],
  ENGINES.map(({ name, version, source }) => [name, version, source]),
)}

## Suites

${table(
  ["suite", ...names],
  allSuites()
    .filter((suite) => run.has(suite))
    .map((suite) => [suite, ...names.map((engine) => mark(engine, suite))]),
)}

Beside the suites: whole daemons on each usual mix of engines answer one life of calls alike, and are killed and started again
(\`test/e2e/mixes.test.ts\`); and hostile input ends with the same status, reason and fields where each store is on a server of its own kind
(\`test/e2e/bad-input-mix.test.ts\`). Finished jobs that have moved from a database to Cassandra are held to the suites of jobs, too
(\`test/stores/jobs-moved.test.ts\`).

## Exceptions

${table(
  ["engine", "suite", "test", "reason"],
  EXCEPTIONS.flatMap(({ engine, suite, tests }) =>
    Object.entries(tests).map(([name, reason]) => [engine, suite, name, reason]),
  ),
)}

Some tests of the SQL adapter that are in no suite are left out on PGlite: ${Object.values(PGLITE_SKIPS).join("; ")}.

## Limits

What the API promises on every engine is in its comments; these differ.

${table(["engine", "limits"], LIMITS)}

## Not run

No test of this version has run on these. A command runs the suites there; a failure is a bug worth telling.

${table(
  ["what", "how"],
  NOT_RUN.map(([what, how]) => [what, `\`${how}\``]),
)}
`
}
