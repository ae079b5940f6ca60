import assert from "node:assert/strict"
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, test } from "node:test"
import { inspect } from "node:util"
import { ConfigError, type ConfigSources, loadConfig } from "../../src/config/load.ts"
import { listSettings, showConfig } from "../../src/config/show.ts"

const folder = mkdtempSync(join(tmpdir(), "keelplane-config-"))
after(() => rmSync(folder, { recursive: true }))

let files = 0
function file(content: string): string {
  const path = join(folder, `${files++}.yaml`)
  writeFileSync(path, content)
  return path
}

const none = file("")

function violations(
  sources: Partial<ConfigSources>,
): readonly { key: string; source: string; message: string }[] {
  try {
    loadConfig({ file: none, env: {}, ...sources })
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.violations
  }
  return []
}

test("nothing at all gives embedded engines on loopback", () => {
  const { config, origins } = loadConfig({ file: none, env: {} })
  assert.equal(config.listen.data, "127.0.0.1:50051")
  assert.equal(config.stores.memory.url.reveal(), "embedded")
  assert.equal(config.auth.mode, "none")
  assert.equal(origins.size, 0)
})

test("flags win over the environment, the environment over the file, the file over defaults", () => {
  const path = file("data_dir: from-file\nlimits: {depth: 10, connections: 11, in_flight_per_tenant: 12}\n")
  const { config, origins } = loadConfig({
    file: path,
    env: { KEELPLANE_LIMITS__DEPTH: "20", KEELPLANE_LIMITS__CONNECTIONS: "21" },
    flags: [{ flag: "--set", path: ["limits", "depth"], value: "30" }],
  })
  assert.equal(config.data_dir, "from-file")
  assert.equal(config.limits.depth, 30)
  assert.equal(config.limits.connections, 21)
  assert.equal(config.limits.in_flight_per_tenant, 12)
  assert.equal(config.limits.streams_per_tenant, 512)
  assert.equal(origins.get("limits.depth"), "--set")
  assert.equal(origins.get("limits.connections"), "environment KEELPLANE_LIMITS__CONNECTIONS")
  assert.equal(origins.get("data_dir"), path)
})

test("KEELPLANE_CONFIG names the file, and a named file must exist", () => {
  const path = file("data_dir: here\n")
  assert.equal(loadConfig({ env: { KEELPLANE_CONFIG: path } }).config.data_dir, "here")
  const [violation] = violations({ file: join(folder, "missing.yaml") })
  assert.match(violation?.message ?? "", /cannot be read: ENOENT/)
})

test("every violation is reported at once, with its key and its source", () => {
  const path = file("limits: {depth: deep}\nlisten: {data: nonsense}\nfrobnicate: 1\n")
  const found = violations({
    file: path,
    env: { KEELPLANE_RETENTION__AUDIT_YEARS: "1", KEELPLANE_FROB: "x" },
    flags: [{ flag: "--log-level", path: ["telemetry", "log_level"], value: "loud" }],
  })
  assert.deepEqual(
    found.map(({ key, source }) => [key, source]).sort(),
    [
      ["frob", "environment KEELPLANE_FROB"],
      ["frobnicate", path],
      ["limits.depth", path],
      ["listen.data", path],
      ["retention.audit_years", "environment KEELPLANE_RETENTION__AUDIT_YEARS"],
      ["telemetry.log_level", "--log-level"],
    ].sort(),
  )
})

test("unsafe pairs are reported beside wrong values", () => {
  const found = violations({
    env: { KEELPLANE_LISTEN: "0.0.0.0:50051", KEELPLANE_LIMITS__DEPTH: "x" },
  })
  assert.deepEqual(found.map(({ key }) => key).sort(), ["limits.depth", "listen.data"])
  assert.match(found.find(({ key }) => key === "listen.data")?.message ?? "", /auth\.mode is none/)
})

test("each unsafe pair is refused", () => {
  const tokens = file("a-token-of-more-than-thirty-two-characters\n")
  const cases: readonly [string, Record<string, string>][] = [
    ["listen.data", { KEELPLANE_LISTEN: "example.org:1" }],
    ["listen.data", { KEELPLANE_LISTEN: "[::]:1" }],
    ["listen.data", { KEELPLANE_LISTEN: "none" }],
    ["listen.ops", { KEELPLANE_OPS_LISTEN: "127.0.0.1:50051" }],
    ["auth.token_file", { KEELPLANE_AUTH__MODE: "required" }],
    ["auth.token_file", { KEELPLANE_TOKEN_FILE: tokens }],
    ["auth.token_file", { KEELPLANE_AUTH__MODE: "required", KEELPLANE_TOKEN_FILE: "/nowhere/tokens" }],
    ["limits.default_deadline_ms", { KEELPLANE_LIMITS__MAX_DEADLINE_MS: "1000" }],
    ["limits.in_flight_per_tenant", { KEELPLANE_LIMITS__IN_FLIGHT: "1" }],
    ["stores.events.configs", { KEELPLANE_STORES__EVENTS__CONFIGS: "true" }],
    ["stores.events.job_history", { KEELPLANE_STORES__EVENTS__JOB_HISTORY: "true" }],
    [
      "retention.jobs_days",
      { KEELPLANE_STORES__EVENTS__URL: "cassandra://h/k", KEELPLANE_RETENTION__JOBS_DAYS: "1826" },
    ],
    ["stores.cache.retry.base_ms", { KEELPLANE_STORES__CACHE__RETRY__BASE_MS: "1000" }],
    ["faults.rules", { KEELPLANE_FAULTS__RULES: "*/*/* before" }],
    [
      "faults.unsafe",
      {
        KEELPLANE_FAULTS__UNSAFE: "true",
        KEELPLANE_LISTEN: "0.0.0.0:1",
        KEELPLANE_AUTH__MODE: "required",
        KEELPLANE_TOKEN_FILE: tokens,
      },
    ],
    ["stores.memory.password_file", { KEELPLANE_STORES__MEMORY__PASSWORD_FILE: tokens }],
    [
      "stores.memory.password_file",
      {
        KEELPLANE_STORES__MEMORY__URL: "postgres://u:p@h/d",
        KEELPLANE_STORES__MEMORY__PASSWORD_FILE: tokens,
      },
    ],
    ["stores.cache.url", { KEELPLANE_STORES__CACHE__URL: "http://h" }],
    ["stores.cache.password_file", { KEELPLANE_STORES__CACHE__PASSWORD_FILE: tokens }],
    [
      "stores.cache.password_file",
      {
        KEELPLANE_STORES__CACHE__URL: "rediss://u:p@h:1",
        KEELPLANE_STORES__CACHE__PASSWORD_FILE: tokens,
      },
    ],
    ["stores.memory.url", { KEELPLANE_STORES__MEMORY__URL: "mysql://h" }],
    ["stores.events.url", { KEELPLANE_STORES__EVENTS__URL: "mysql://h" }],
    [
      "cache.namespaces.x.max_length",
      { KEELPLANE_CACHE__NAMESPACES: '{"x": {"kind": "value", "max_length": 3}}' },
    ],
  ]
  for (const [key, env] of cases) {
    assert.deepEqual(
      violations({ env }).map((each) => each.key),
      [key],
      JSON.stringify(env),
    )
  }
})

test("each store may be a database of its own", () => {
  for (const store of ["MEMORY", "EVENTS", "CONTROL"]) {
    const env = { [`KEELPLANE_STORES__${store}__URL`]: "postgres://u@h/d" }
    assert.deepEqual(violations({ env }), [], store)
  }
})

test("loopback in all its spellings needs no authentication", () => {
  for (const address of ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1"]) {
    assert.deepEqual(violations({ env: { KEELPLANE_LISTEN: address } }), [], address)
  }
})

test("variables that Kubernetes makes for a Service named keelplane are ignored", () => {
  assert.deepEqual(
    violations({
      env: {
        KEELPLANE_SERVICE_HOST: "10.0.0.1",
        KEELPLANE_SERVICE_PORT: "50051",
        KEELPLANE_SERVICE_PORT_GRPC: "50051",
        KEELPLANE_PORT: "tcp://10.0.0.1:50051",
        KEELPLANE_PORT_50051_TCP: "tcp://10.0.0.1:50051",
        KEELPLANE_PORT_50051_TCP_PROTO: "tcp",
        KEELPLANE_OPS_SERVICE_HOST: "10.0.0.2",
      },
    }),
    [],
  )
})

test("a misspelt key is answered with the right one", () => {
  const [violation] = violations({ file: file("limits: {dept: 3}\n") })
  assert.match(violation?.message ?? "", /did you mean limits\.depth\?/)
})

test("secrets are shown as ***, however they are printed", () => {
  const loaded = loadConfig({
    file: none,
    env: { KEELPLANE_STORES__MEMORY__URL: "postgres://user:hunter2@db/x?password=hunter3" },
  })
  const everything = [
    showConfig(loaded),
    JSON.stringify(loaded.config),
    inspect(loaded.config, { depth: 10, showHidden: true }),
    JSON.stringify(listSettings(loaded)),
    String(loaded.config.stores.memory.url),
    `${loaded.config.stores.memory.url}`,
  ].join("\n")
  assert.doesNotMatch(everything, /hunter/)
  assert.match(everything, /postgres:\/\/user:\*\*\*@db\/x/)
  assert.match(loaded.config.stores.memory.url.reveal(), /hunter2/)
})

test("a refused secret is not quoted", () => {
  const env = { KEELPLANE_STORES__MEMORY__URL: "mysql://user:hunter2@db/x" }
  assert.throws(
    () => loadConfig({ file: none, env }),
    (error: Error) => !error.message.includes("hunter2"),
  )
})

test("the configuration is frozen at every depth", () => {
  const { config } = loadConfig({ file: none, env: {} })
  assert.throws(() => Object.assign(config.limits, { depth: 1 }), TypeError)
  assert.throws(() => Object.assign(config.stores.memory.breaker, { volume: 1 }), TypeError)
})

test("a file that is no map, no YAML or has a key twice is refused with its line", () => {
  assert.match(violations({ file: file("- 1\n") })[0]?.message ?? "", /map of settings/)
  assert.match(violations({ file: file("a: [1\n") })[0]?.source ?? "", /yaml:\d+$/)
  assert.match(violations({ file: file("data_dir: a\ndata_dir: b\n") })[0]?.message ?? "", /DUPLICATE_KEY/)
})

test("keys that JavaScript objects have anyway are unknown keys", () => {
  for (const key of ["__proto__", "constructor", "toString"]) {
    const found = violations({ file: file(`${key}: {polluted: 1}\n`) })
    assert.ok(found.length > 0, key)
  }
  assert.equal(({} as Record<string, unknown>).polluted, undefined)
})

test("entries of maps have names of their own, and __proto__ is none", () => {
  const entries = [
    ["cache", "namespaces", "{kind: hash}"],
    ["cache", "scripts", "a.lua"],
    ["memory", "embedders", "{kind: openai, url: 'http://127.0.0.1', model: m, dimension: 3}"],
  ] as const
  for (const [section, map, entry] of entries) {
    const key = `${section}.${map}.__proto__`
    const variable = `KEELPLANE_${section}__${map}`.toUpperCase()
    const inVariable = { [variable]: `{__proto__: ${entry}}` }
    const flag = { flag: "--set", path: [section, map, "__proto__", "kind"], value: "hash" }
    const places = [
      [violations({ file: file(`${section}: {${map}: {__proto__: ${entry}}}\n`) }), ".yaml"],
      [violations({ file: none, env: inVariable }), `environment ${variable}`],
      [violations({ file: none, flags: [flag] }), "--set"],
    ] as const
    for (const [found, source] of places) {
      assert.ok(found.length > 0, `${key} from ${source}`)
      for (const each of found) {
        assert.ok(each.key === key || each.key.startsWith(`${key}.`), each.key)
        assert.ok(each.source.endsWith(source), each.source)
        assert.equal(each.message, "is not a usable name")
      }
    }
  }
  const { config } = loadConfig({ file: file("cache: {namespaces: {constructor: {kind: hash}}}\n"), env: {} })
  const [[name, policy] = []] = Object.entries(config.cache.namespaces)
  assert.deepEqual([name, policy?.kind], ["constructor", "hash"])
  const [wrong] = violations({ file: file("cache: {namespaces: {toString: {}}}\n") })
  assert.match(wrong?.message ?? "", /1 to 63/, "what a name may be is said")
})

test("an entry of a map that says nothing has the defaults, and takes back nothing", () => {
  const path = file("cache: {namespaces: {plain: {}, kept: {kind: hash}}}\nlimits: {}\n")
  const env = { KEELPLANE_CACHE__NAMESPACES: '{"kept": {}}' }
  const { namespaces } = loadConfig({ file: path, env }).config.cache
  assert.equal(namespaces.plain?.kind, "any")
  assert.equal(namespaces.kept?.kind, "hash")
  const [wrong] = violations({ file: file("memory: {embedders: {mine: {}}}\n") })
  assert.match(wrong?.key ?? "", /^memory\.embedders\.mine\./)
  assert.match(wrong?.source ?? "", /yaml$/)
})

test("the OTLP endpoint comes from the standard variable and yields to ours", () => {
  const env = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://collector:4318" }
  assert.equal(loadConfig({ file: none, env }).config.telemetry.otlp_endpoint, "http://collector:4318")
  const both = { ...env, KEELPLANE_TELEMETRY__OTLP_ENDPOINT: "http://other:4318" }
  assert.equal(loadConfig({ file: none, env: both }).config.telemetry.otlp_endpoint, "http://other:4318")
})
