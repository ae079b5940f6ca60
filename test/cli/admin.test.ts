import assert from "node:assert/strict"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { after, before, test } from "node:test"
import { fileURLToPath } from "node:url"
import { type RunningCli, startCli } from "./start-cli.ts"

const main = fileURLToPath(new URL("../../dist/main.js", import.meta.url))
const folder = mkdtempSync(join(tmpdir(), "keelplane-admin-"))

let daemon: RunningCli
let base = ""
let ops = ""

before(async () => {
  daemon = await startCli(
    main,
    ["--data-dir", join(folder, "data"), "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"],
    { KEELPLANE_LIMITS__DEPTH: "48", KEELPLANE_CACHE__MAX_BYTES: "67108864" },
  )
  base = `http://${/API {4}(\S+)/.exec(daemon.stdout())?.[1]}/keelplane.v1.`
  ops = /ops {4}(http:\/\/[^/]+)/.exec(daemon.stdout())?.[1] ?? ""
})

after(async () => {
  daemon?.kill("SIGKILL")
  await daemon?.ended
  rmSync(folder, { recursive: true, force: true })
})

async function call(method: string, body: object, status = 200): Promise<Record<string, unknown>> {
  const response = await fetch(base + method, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
  })
  assert.equal(response.status, status, method)
  return (await response.json()) as Record<string, unknown>
}

test("GetStatus shows version, engines, migrations, breakers and services", async () => {
  const status = await call("AdminService/GetStatus", {})
  assert.match(String(status.version), /^\d+\.\d+\.\d+$/)
  assert.ok(Date.parse(String(status.startTime)) <= Date.now())
  const [engine, cache] = status.engines as Record<string, unknown>[]
  assert.equal(cache?.name, "cache")
  assert.equal(cache?.engine, "inprocess")
  assert.equal(cache?.serving, true)
  assert.equal(engine?.engine, "pglite")
  assert.equal(engine?.serving, true)
  assert.equal((engine?.migrations as { pendingCount?: number } | undefined)?.pendingCount ?? 0, 0)
  assert.equal((engine?.capabilities as Record<string, string> | undefined)?.concurrency, "1")
  const breakers = status.breakers as Record<string, unknown>[]
  assert.deepEqual(
    breakers.map(({ store, operationClass, state }) => `${store} ${operationClass} ${state}`),
    ["memory", "events", "control"].flatMap((store) =>
      ["read", "write"].map((kind) => `${store} ${kind} BREAKER_STATE_CLOSED`),
    ),
  )
  const services = (status.services as { name: string; serving: boolean }[]).filter(({ serving }) => serving)
  assert.ok(services.some(({ name }) => name === "keelplane.v1.AdminService"))
  assert.ok(services.length >= 11)
})

test("GetConfiguration shows every setting with its source", async () => {
  const { settings } = await call("AdminService/GetConfiguration", {})
  const byKey = new Map(
    (settings as { key: string; value: string; source: string }[]).map((each) => [each.key, each]),
  )
  assert.deepEqual(byKey.get("limits.depth"), {
    key: "limits.depth",
    value: "48",
    source: "environment KEELPLANE_LIMITS__DEPTH",
  })
  assert.equal(byKey.get("listen.data")?.source, "--listen")
  assert.equal(byKey.get("auth.mode")?.source, "default")
})

test("ListMigrations has pages, and a page token opens only for the same question", async () => {
  const seen: string[] = []
  let pageToken = ""
  do {
    const page = await call("AdminService/ListMigrations", { pageSize: 3, pageToken })
    const migrations = page.migrations as { version: number; applyTime: string }[]
    assert.ok(migrations.length <= 3)
    for (const { version, applyTime } of migrations) {
      assert.ok(Date.parse(applyTime) <= Date.now())
      seen.push(String(version))
    }
    pageToken = String(page.nextPageToken ?? "")
    if (pageToken !== "") {
      await call("AdminService/ListMigrations", { pageSize: 3, pageToken: `${pageToken}x` }, 400)
    }
  } while (pageToken !== "")
  assert.deepEqual(seen, [...new Set(seen)])
  assert.ok(seen.length > 6)
})

test("TripBreaker takes a store out of service, and ResetBreaker back into it", async () => {
  const states = async () => {
    const { breakers } = await call("AdminService/ListBreakers", {})
    const list = breakers as { store: string; operationClass: string; state: string; tripped?: boolean }[]
    return list.filter(({ tripped }) => tripped).map((each) => `${each.store} ${each.operationClass}`)
  }
  assert.deepEqual(await states(), [])
  const request = { store: "memory", operationClass: "read", duration: "3600s", requestId: "trip-1" }
  const first = await call("AdminService/TripBreaker", request)
  assert.deepEqual(await call("AdminService/TripBreaker", request), first)
  assert.deepEqual(await states(), ["memory read"])
  const refused = await call("MemoryService/ListCollections", {}, 503)
  assert.equal(refused.code, "unavailable")
  await call("CacheService/Get", { key: "unharmed" })
  await call("AdminService/TripBreaker", { store: "nowhere" }, 404)
  await call("AdminService/TripBreaker", { store: "memory", operationClass: "both" }, 400)
  await call("AdminService/TripBreaker", { store: "memory", requestId: "trip-1" }, 400)
  await call("AdminService/ResetBreaker", { store: "memory" })
  assert.deepEqual(await states(), [])
  await call("MemoryService/ListCollections", {})
})

test("ListOutbox and ReplayOutbox answer for a daemon that owes nothing, and name what they do not know", async () => {
  assert.deepEqual(await call("AdminService/ListOutbox", {}), {})
  const store = "memory+events+control"
  assert.deepEqual(await call("AdminService/ListOutbox", { store, topic: "audit", pageSize: 3 }), {})
  await call("AdminService/ListOutbox", { store: "nowhere" }, 404)
  const replay = { store, entryIds: ["1", "2"], requestId: "replay-1" }
  assert.deepEqual(await call("AdminService/ReplayOutbox", replay), {})
  assert.deepEqual(await call("AdminService/ReplayOutbox", replay), {})
  await call("AdminService/ReplayOutbox", { ...replay, entryIds: ["3"] }, 400)
  await call("AdminService/ReplayOutbox", { store: "nowhere" }, 404)
  await call("AdminService/ReplayOutbox", { entryIds: ["one"] }, 400)
})

test("/metrics counts what was called", async () => {
  await call("CacheService/Set", { key: "k", text: "v" })
  const body = await (await fetch(`${ops}/metrics`)).text()
  assert.match(
    body,
    /keelplane_rpc_server_calls_total\{rpc_method="keelplane.v1.CacheService\/Set",rpc_status_code="OK"\} 1/,
  )
  assert.match(
    body,
    /db_client_operation_duration_seconds_count\{store="cache",db_operation_name="entries.write"\} 1/,
  )
  assert.match(body, /keelplane_breaker_state\{store="events",operation_class="write"\} 0/)
  assert.match(body, /keelplane_store_up\{store="memory\+events\+control"\} 1/)
  assert.match(body, /^process_resident_memory_bytes \d+$/m)
})

test("Drain answers, then the process ends in order", async () => {
  await call("AdminService/Drain", {})
  assert.deepEqual(await daemon.ended, { code: 0, signal: null })
})
