/** What a real server refuses, by the reason that callers get; and that it heals once the server does. */
import assert from "node:assert/strict"
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, it } from "node:test"
import type { Redis } from "ioredis"
import type { Reason } from "../../src/domain/kernel/errors.ts"
import { fails, op, put, read, repeatable, scopeOf, text } from "../contract/cache-support.ts"
import {
  atEnd,
  freshTenant,
  ownServerSkip,
  type RedisServer,
  startRedis,
  testRedis,
} from "../engines/redis.ts"
import { bareClient, until } from "../engines/redis-cluster.ts"

const fresh = () => scopeOf(freshTenant())

async function setUser(admin: Redis, ...rules: readonly string[]): Promise<void> {
  await admin.call("ACL", "SETUSER", "keel", ...rules)
}

/** A folder for files of the test. */
function folder(): string {
  const made = mkdtempSync(join(tmpdir(), "keelplane-refusals-"))
  atEnd(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** Asserts that writes are refused with a reason while reads pass, that nothing was written, and that it ends with `heal`. */
async function refusesWrites(
  { url }: RedisServer,
  reason: Reason,
  refuse: (admin: Redis) => Promise<unknown>,
  heal: (admin: Redis) => Promise<unknown>,
): Promise<void> {
  const admin = bareClient(url)
  const { cache } = await testRedis({ url })
  const scope = fresh()
  await put(cache, scope, "k", "v")
  await refuse(admin)
  const write = () => cache.write(repeatable(scope, "id"), op({ kind: "set", key: "k", ...text("w") }))
  const error = await fails(reason, write)
  assert.deepEqual(error.metadata, { store: "redis" })
  // Not every operation has a script of its own.
  await fails(reason, () => cache.write(scope, op({ kind: "listPush", key: "list", values: [text("w")] })))
  await until("reads pass", async () => (await read(cache, scope, "k")) === "v")
  await heal(admin)
  await until("writes pass", async () => (await write()).applied)
  assert.equal(await read(cache, scope, "k"), "w")
}

describe("redis that refuses", { skip: ownServerSkip }, () => {
  it("STORE_UNAVAILABLE: a replica takes no writes (READONLY)", async () => {
    await refusesWrites(
      await startRedis(),
      "STORE_UNAVAILABLE",
      // Of a port where nobody is, so that it keeps its data.
      async (admin) => await admin.replicaof("127.0.0.1", 1),
      async (admin) => await admin.replicaof("NO", "ONE"),
    )
  })

  it("STORE_UNAVAILABLE: too few replicas (NOREPLICAS)", async () => {
    await refusesWrites(
      await startRedis(),
      "STORE_UNAVAILABLE",
      async (admin) => await admin.config("SET", "min-replicas-to-write", "1"),
      async (admin) => await admin.config("SET", "min-replicas-to-write", "0"),
    )
  })

  it("STORE_UNAVAILABLE: the server cannot save (MISCONF)", async () => {
    const server = await startRedis(["--save", "3600 1000000", "--dbfilename", "taken"])
    const taken = join(server.folder, "taken")
    mkdirSync(taken)
    writeFileSync(join(taken, "file"), "")
    await refusesWrites(
      server,
      "STORE_UNAVAILABLE",
      async (admin) => {
        await until("a save failed", async () => {
          await admin.bgsave().catch(() => undefined)
          return (await admin.info("persistence")).includes("rdb_last_bgsave_status:err")
        })
      },
      async (admin) => await admin.config("SET", "stop-writes-on-bgsave-error", "no"),
    )
  })

  it("STORE_FULL: no memory left (OOM)", async () => {
    await refusesWrites(
      await startRedis(["--maxmemory-policy", "noeviction"]),
      "STORE_FULL",
      async (admin) => await admin.config("SET", "maxmemory", "1"),
      async (admin) => await admin.config("SET", "maxmemory", "0"),
    )
  })

  it("STORE_AUTH: the user lost a right (NOPERM)", async () => {
    const server = await startRedis()
    const admin = bareClient(server.url)
    await setUser(admin, "on", ">pw", "~*", "&*", "+@all")
    const { cache } = await testRedis({ url: server.url.replace("redis://", "redis://keel:pw@") })
    const scope = fresh()
    await put(cache, scope, "k", "v")
    await setUser(admin, "-evalsha", "-eval")
    await fails("STORE_AUTH", () => put(cache, scope, "k", "w"))
    await setUser(admin, "+@all")
    assert.equal(await read(cache, scope, "k"), "v")
    await put(cache, scope, "k", "w")
  })

  it("STORE_AUTH: no password (NOAUTH), and a wrong one (WRONGPASS)", async () => {
    const server = await startRedis(["--requirepass", "right"], undefined, "right")
    const { host } = new URL(server.url)
    for (const login of ["", ":wrong@", "keel:right@"]) {
      const { ping, cache, close } = await testRedis({ url: `redis://${login}${host}`, openMs: 300 })
      await fails("STORE_AUTH", () => ping(fresh()))
      await fails("STORE_AUTH", () => put(cache, fresh(), "k", "v"))
      await close()
    }
    const { ping } = await testRedis({ url: `redis://:right@${host}` })
    await ping(fresh())
  })

  it("reads a rotated password from its file", async () => {
    const { url } = await startRedis()
    const admin = bareClient(url)
    await setUser(admin, "on", ">first", "~*", "&*", "+@all")
    const file = join(folder(), "password")
    writeFileSync(file, "first\n")
    const own = url.replace("redis://", "redis://keel@")
    const { cache, pubsub, ping } = await testRedis({ url: own, passwordFile: file })
    const scope = fresh()
    await put(cache, scope, "k", "v")
    await setUser(admin, "resetpass", ">second")
    await admin.call("CLIENT", "KILL", "USER", "keel")
    await until("the old password is refused", async () => {
      const error = await ping(scope).catch((cause: unknown) => cause)
      return error instanceof Error && "reason" in error && error.reason === "STORE_AUTH"
    })
    writeFileSync(file, "second\n")
    await until("the new password is taken", async () => {
      await ping(scope)
      return true
    })
    assert.equal(await read(cache, scope, "k"), "v")
    const frames = pubsub.subscribe(scope, { topics: ["t"], patterns: [], heartbeatIntervalMs: 300_000 })
    await until("messages come in again", async () => {
      await frames[Symbol.asyncIterator]().next()
      return true
    })
  })

  it("STORE_UNAVAILABLE: the server reads its data (LOADING), then heals", async () => {
    const server = await startRedis(["--enable-debug-command", "local"])
    const admin = bareClient(server.url)
    await admin.eval("for i = 1, 4000 do redis.call('SET', 'k' .. i, i) end", 0)
    const { cache } = await testRedis({ url: server.url, openMs: 300 })
    const scope = fresh()
    await put(cache, scope, "k", "v")
    await admin.config("SET", "key-load-delay", "500")
    await admin.config("SET", "loading-process-events-interval-bytes", "1024")
    const loading = admin.call("DEBUG", "RELOAD")
    await until("it is loading", async () => {
      const error = await read(cache, scope, "k").catch((cause: unknown) => cause)
      return error instanceof Error && "reason" in error && error.reason === "STORE_UNAVAILABLE"
    })
    await loading
    await until("it is done", async () => (await read(cache, scope, "k")) === "v")
  })
})
