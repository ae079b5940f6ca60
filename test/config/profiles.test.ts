import assert from "node:assert/strict"
import { globSync } from "node:fs"
import { test } from "node:test"
import { loadConfig } from "../../src/config/load.ts"
import { PROFILE_NAMES } from "../../src/config/profiles.ts"

const urls = (sources: Parameters<typeof loadConfig>[0]) =>
  Object.entries(loadConfig(sources).config.stores).map(([name, { url }]) => `${name} ${url.reveal()}`)

test("every example file is accepted", () => {
  const files = globSync("examples/config/*.yaml")
  assert.ok(files.length >= 4)
  for (const file of files) assert.doesNotThrow(() => loadConfig({ file, env: {} }), file)
})

test("a profile stands below every other source", () => {
  assert.deepEqual(urls({ profile: "embedded", env: {} }), urls({ env: {} }))
  for (const name of PROFILE_NAMES) assert.doesNotThrow(() => loadConfig({ profile: name, env: {} }))
  const env = { KEELPLANE_PROFILE: "full", KEELPLANE_STORES__CACHE__URL: "redis://cache:1" }
  assert.deepEqual(urls({ env }), [
    "memory postgres://",
    "vectors milvus://127.0.0.1:19530",
    "events cassandra://127.0.0.1:9042/keelplane",
    "control postgres://",
    "cache redis://cache:1",
  ])
  assert.equal(loadConfig({ env }).origins.get("stores.memory.url"), "environment KEELPLANE_PROFILE full")
  assert.deepEqual(urls({ env, profile: "postgres" }).slice(0, 2), ["memory postgres://", "vectors none"])
})

test("an unknown profile is refused with the known ones", () => {
  assert.throws(() => loadConfig({ profile: "ful", env: {} }), /--profile ful.*embedded, postgres, full/s)
})
