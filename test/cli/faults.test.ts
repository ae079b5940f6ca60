/** A daemon whose stores fail on purpose: what callers, metrics and the log then say. */
import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, test } from "node:test"
import { fileURLToPath } from "node:url"
import { type RunningCli, startCli } from "./start-cli.ts"

const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "keelplane-faults-"))

let daemon: RunningCli
let base = ""
let ops = ""

before(async () => {
  daemon = await startCli(
    main,
    ["--data-dir", join(folder, "data"), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"],
    {
      KEELPLANE_FAULTS__UNSAFE: "true",
      KEELPLANE_FAULTS__SEED: "42",
      KEELPLANE_FAULTS__RULES:
        "memory/*/listCollections nth=1 before; memory/*/createCollection nth=1 after; memory/*/createCollection nth=2 after; cache/entries/write nth=1 before",
    },
  )
  base = `http://${/API {4}(\S+)/.exec(daemon.stdout())?.[1]}/keelplane.v1.`
  ops = /ops {4}(http:\/\/[^/]+)/.exec(daemon.stdout())?.[1] ?? ""
})

after(async () => {
  daemon?.kill("SIGKILL")
  await daemon?.ended
  rmSync(folder, { recursive: true, force: true })
})

async function call(method: string, body: object) {
  const response = await fetch(base + method, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  })
  return {
    status: response.status,
    pushback: response.headers.get("grpc-retry-pushback-ms"),
    body: (await response.json()) as Record<string, unknown>,
  }
}

const collection = (id: string) => ({ id, embedder: "builtin-lexical-384" })

test("a read that failed is answered all the same", async () => {
  assert.equal((await call("MemoryService/ListCollections", {})).status, 200)
  const metrics = await (await fetch(`${ops}/metrics`)).text()
  assert.match(metrics, /keelplane_store_retries_total\{store="memory"\} 1/)
  assert.match(metrics, /keelplane_bulkhead_calls_in_flight\{store="memory",operation_class="read"\} 0/)
})

test("a lost answer is owned up to without a request_id, and nobody is told to send the call again", async () => {
  const lost = await call("MemoryService/CreateCollection", { collection: collection("first") })
  assert.equal(lost.body.code, "unknown")
  assert.equal(lost.pushback, "-1")
  const { body } = await call("MemoryService/ListCollections", {})
  assert.equal((body.collections as object[]).length, 1, "its effect is there")
})

test("under a request_id the daemon fetches the lost answer itself", async () => {
  const request = { collection: collection("second"), requestId: "once" }
  const created = await call("MemoryService/CreateCollection", request)
  assert.equal(created.status, 200)
  assert.deepEqual((await call("MemoryService/CreateCollection", request)).body, created.body)
  const { body } = await call("MemoryService/ListCollections", {})
  assert.equal((body.collections as object[]).length, 2)
})

test("engines inside the daemon can be made to fail, too", async () => {
  const refused = await call("CacheService/Set", { key: "k", text: "v" })
  assert.equal(refused.status, 503)
  assert.ok(Number(refused.pushback) > 0)
  assert.equal((await call("CacheService/Set", { key: "k", text: "v" })).status, 200)
})

test("the log names the seed and each fault", () => {
  const log = daemon.stderr() + daemon.stdout()
  assert.match(log, /fail on purpose/)
  assert.match(log, /"seed":42|seed.{0,12}42/)
  assert.match(log, /memory\/[a-z-]+\/listCollections/i)
})
