/** Rules over our own tree that no compiler knows. */
import assert from "node:assert/strict"
import { existsSync, readdirSync } from "node:fs"
import { test } from "node:test"
import { fileURLToPath } from "node:url"
import { readReasons } from "../scripts/errors-page.ts"
import { REASONS } from "../src/domain/kernel/errors.ts"
import { filesMatching, importsOf, resolveImport } from "./tidy/files.ts"
import { functionLengths } from "./tidy/functions.ts"

const root = fileURLToPath(new URL("../", import.meta.url))
const sources = filesMatching("src/**/*.ts")

const MAX_FILE_LINES = 500
const MAX_FUNCTION_LINES = 70
const MEDIAN_FILE_LINES = 120

/** Who may import whom, by the beginning of the path. The first row that fits a file holds for it. */
const DIRECTIONS: readonly (readonly [from: string, to: readonly string[]])[] = [
  ["src/main.ts", ["src/bootstrap/cli/run.ts"]],
  [
    "src/bootstrap/",
    [
      "src/bootstrap/",
      "src/config/",
      "src/telemetry/",
      "src/rpc/",
      "src/services/",
      "src/stores/",
      "src/domain/",
    ],
  ],
  ["src/config/", ["src/config/"]],
  // The seam's types are what telemetry implements.
  ["src/telemetry/", ["src/telemetry/", "src/domain/kernel/", "src/rpc/telemetry-seam.ts"]],
  ["src/rpc/", ["src/rpc/", "src/services/", "src/domain/", "src/gen/"]],
  ["src/services/", ["src/services/", "src/domain/", "src/gen/", "src/rpc/handler.ts"]],
  ["src/stores/decorators/", ["src/stores/decorators/", "src/domain/"]],
  ["src/stores/embedders/", ["src/stores/embedders/", "src/domain/"]],
  ["src/stores/inprocess/", ["src/stores/inprocess/", "src/stores/group-commit.ts", "src/domain/"]],
  [
    "src/stores/postgres/",
    ["src/stores/postgres/", "src/stores/group-commit.ts", "src/stores/migration-log.ts", "src/domain/"],
  ],
  [
    "src/stores/cassandra/",
    ["src/stores/cassandra/", "src/stores/group-commit.ts", "src/stores/migration-log.ts", "src/domain/"],
  ],
  // A subscription's buffer is the same wherever messages come from.
  ["src/stores/redis/", ["src/stores/redis/", "src/stores/inprocess/subscriber.ts", "src/domain/"]],
  ["src/stores/", ["src/stores/", "src/domain/"]],
  ["src/domain/", ["src/domain/"]],
]

/** Where a package may be used; packages that are not listed may be used everywhere. */
const HOMES: readonly (readonly [name: RegExp, homes: readonly string[]])[] = [
  [/^pg(-|$)/, ["src/stores/postgres/"]],
  [/^@electric-sql\//, ["src/stores/postgres/"]],
  [/^cassandra-driver$/, ["src/stores/cassandra/"]],
  [/^ioredis$/, ["src/stores/redis/"]],
  [/^@zilliz\//, ["src/stores/milvus/"]],
  [/lua|wasmoon/, ["src/stores/inprocess/"]],
  [/^opossum$/, ["src/stores/decorators/"]],
  [/^@grpc\//, ["src/rpc/"]],
  [/^@connectrpc\//, ["src/rpc/"]],
  [/^@bufbuild\//, ["src/rpc/", "src/services/"]],
  [/^@opentelemetry\//, ["src/telemetry/"]],
  [/^pino/, ["src/telemetry/"]],
  [/^zod$/, ["src/config/"]],
  [/^yaml$/, ["src/config/"]],
]

test("imports run one way", () => {
  const wrong = sources.flatMap((file) => {
    const rule = DIRECTIONS.find(([from]) => file.path.startsWith(from))
    assert.ok(rule !== undefined, `${file.path} lies in no known folder`)
    return importsOf(file)
      .filter((name) => name.startsWith("."))
      .map((name) => resolveImport(file.path, name))
      .filter((target) => !rule[1].some((allowed) => target.startsWith(allowed)))
      .map((target) => `${file.path} imports ${target}`)
  })
  assert.deepEqual(wrong, [])
})

test("packages are used only where they belong", () => {
  const wrong = sources.flatMap((file) =>
    importsOf(file)
      .filter((name) => !name.startsWith(".") && !name.startsWith("node:"))
      .filter((name) => {
        const homes = HOMES.find(([pattern]) => pattern.test(name))?.[1]
        return homes !== undefined && !homes.some((home) => file.path.startsWith(home))
      })
      .map((name) => `${file.path} imports ${name}`),
  )
  assert.deepEqual(wrong, [])
})

test("files and functions stay short", () => {
  const files = sources.filter(({ lines }) => lines.length - 1 > MAX_FILE_LINES).map(({ path }) => path)
  assert.deepEqual(files, [])
  const functions = sources
    .flatMap(functionLengths)
    .filter(({ length }) => length > MAX_FUNCTION_LINES)
    .map(({ path, line, length }) => `${path}:${line} has ${length} lines`)
  assert.deepEqual(functions, [])
  const lengths = sources.map(({ lines }) => lines.length - 1).sort((a, b) => a - b)
  const median = lengths[Math.floor(lengths.length / 2)] ?? 0
  assert.ok(median <= MEDIAN_FILE_LINES, `the median file has ${median} lines`)
})

test("every exported symbol says what it is", () => {
  const silent = sources.flatMap(({ path, lines }) =>
    lines.flatMap((line, index) => {
      const declared =
        /^export (?:default )?(?:abstract )?(?:async )?(?:function\*?|class|const|let|interface|type) (\w+)/.exec(
          line,
        )
      if (declared === null || /\*\/$/.test(lines[index - 1] ?? "")) return []
      // The second and later signatures of an overload share the first one's words.
      const overload = lines
        .slice(0, index)
        .some((earlier) => earlier.startsWith(`export function ${declared[1]}(`))
      return overload ? [] : [`${path}:${index + 1} ${declared[1]}`]
    }),
  )
  assert.deepEqual(silent, [])
})

test("nothing is left to do, switched off, or of another place", () => {
  const banned = [
    ["TO", "DO"],
    ["FIX", "ME"],
    ["XX", "X:"],
    ["@ts-", "ignore"],
    ["@ts-", "expect-error"],
    ["\\bas ", "any\\b"],
    [": ", "any\\b"],
    ["biome-", "ignore"],
    ["/wo", "rk/"],
    ["\\.\\./sha", "red"],
    ["STYLE", "\\.md"],
    ["DESIGN", "\\.md"],
    ["test\\.(?:only|", "skip)\\("],
  ].map((parts) => new RegExp(parts.join("")))
  const files = filesMatching(
    "{src,test,scripts,bench,demo,proto,examples}/**/*.{ts,proto,sql,py,go}",
    "*.md",
    "docs/**/*.md",
    "helm/**/*.{yaml,md,txt}",
    "Dockerfile",
  )
  const found = files.flatMap(({ path, lines }) => {
    const prose = path.endsWith(".md")
    return lines.flatMap((line, index) => {
      const word = banned.find((pattern) => pattern.test(line) && !(prose && /any/.test(pattern.source)))
      const comment = /^\s*(?:\*|\/\/|\/\*|--|#)/.test(line)
      if (word === undefined || (comment && /any/.test(word.source))) return []
      return [`${path}:${index + 1} ${line.trim()}`]
    })
  })
  assert.deepEqual(found, [])
})

test("every store folder has a README of its caveats", () => {
  const folders = readdirSync(`${root}src/stores`, { withFileTypes: true }).filter((entry) =>
    entry.isDirectory(),
  )
  const without = folders.filter(({ name }) => !existsSync(`${root}src/stores/${name}/README.md`))
  assert.deepEqual(
    without.map(({ name }) => name),
    [],
  )
})

test("reasons in code, proto and documentation are the same", () => {
  const [proto] = filesMatching("proto/keelplane/v1/error_reason.proto")
  const [page] = filesMatching("docs/errors.md")
  assert.ok(proto !== undefined && page !== undefined)
  const declared = [...proto.text.matchAll(/^ {2}ERROR_REASON_(\w+) = [1-9]/gm)].map(([, name]) => name)
  const described = readReasons(proto.text).map(({ name }) => name)
  const documented = page.lines.filter((line) => line.startsWith("## ")).map((line) => line.slice(3))
  assert.deepEqual([...REASONS].sort(), [...declared].sort())
  assert.deepEqual(described, declared, "each value needs a comment and the error option")
  assert.deepEqual(documented, declared)
})

test("a scope is changed by scopeWith, for spreading it loses its signal, actor and trace", () => {
  const wrong = sources
    .filter(({ path }) => path !== "src/domain/kernel/scope.ts")
    .filter(({ text }) => /\{\s*\.\.\.(scope|ctx)\b/.test(text))
    .map(({ path }) => path)
  assert.deepEqual(wrong, [])
})
