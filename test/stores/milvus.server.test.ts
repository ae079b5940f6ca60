/** Milvus away, hung, refusing or unable, and what its driver would make of that. */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { createServer, type Socket } from "node:net"
import { describe, it } from "node:test"
import { MilvusClient } from "@zilliz/milvus2-sdk-node"
import type { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { type Collection, ID_ONLY } from "../../src/domain/memory/model.ts"
import { parseAddress } from "../../src/stores/milvus/address.ts"
import { checkStatus } from "../../src/stores/milvus/connection.ts"
import { MilvusStatusError, toDomainError } from "../../src/stores/milvus/errors.ts"
import { openMilvus } from "../../src/stores/milvus/index.ts"
import { rejects } from "../contract/memory-support.ts"
import { freePort, milvusLite, milvusStandalone, testMilvus } from "../engines/milvus.ts"
import { freshTenant } from "../engines/pglite.ts"
import { TcpProxy } from "../support/proxy.ts"
import { until } from "../support/until.ts"

const place = { ref: "1", dimension: 2, metric: "COSINE", index: { kind: "FLAT" } } as const
const collection = { ...place, id: "c" } as unknown as Collection
const row = {
  id: "a",
  text: "",
  vector: Float32Array.of(1, 0),
  metadata: {},
  revision: 1n,
  createTimeMs: 0,
  updateTimeMs: 0,
  expireTimeMs: undefined,
}

/** Longer than the pauses of a client that looks less and less often are short. */
const AWAY_MS = 16_000
const BACK_MS = 6_000
/** So slow that calls which wait for others that were given up would be late. */
const SLOW_MS = 1_000
const GIVEN_UP = 60

function within(ms: number): CallScope {
  return { ...systemScope(freshTenant()), deadlineMs: Date.now() + ms }
}

describe("a Milvus that is not there", { timeout: 60_000 }, () => {
  it("opens all the same, and says so in every call", async () => {
    const engine = openMilvus({ url: `milvus://user:secret@127.0.0.1:${await freePort()}` })
    const failures = [
      await rejects(engine.ping(within(20_000)), "STORE_UNAVAILABLE"),
      await rejects(engine.vectors.write(within(20_000), place, [row]), "STORE_UNAVAILABLE"),
      await rejects(engine.vectors.count(within(20_000), collection, undefined), "STORE_UNAVAILABLE"),
    ]
    for (const { message, metadata } of failures)
      assert.doesNotMatch(`${message}${JSON.stringify(metadata)}`, /secret|127/)
    assert.equal(engine.features(), undefined)
    await engine.close()
    await rejects(engine.ping(within(20_000)), "STORE_UNAVAILABLE")
  })

  it("ends a call at its deadline, and when it is cancelled, while the server hangs", async () => {
    const sockets: Socket[] = []
    const silent = createServer((socket) => sockets.push(socket))
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve))
    const address = silent.address()
    assert.ok(typeof address === "object" && address !== null)
    const engine = openMilvus({ url: `milvus://127.0.0.1:${address.port}` })
    await rejects(engine.ping(within(200)), "DEADLINE_EXCEEDED")
    const controller = new AbortController()
    const call = rejects(engine.ping({ ...within(20_000), signal: controller.signal }), "CANCELLED")
    controller.abort()
    await call
    for (const socket of sockets) socket.destroy()
    silent.close()
    await engine.close()
  })
})

describe("a Milvus that comes back", { skip: milvusStandalone.skip, timeout: 300_000 }, () => {
  it("is used again within seconds, however long it was away", async () => {
    const proxy = await TcpProxy.to(Number(new URL(await milvusStandalone.url()).port))
    const engine = openMilvus({ url: through(proxy, await milvusStandalone.url()) })
    const answers = () =>
      engine.ping(within(20_000)).then(
        () => true,
        () => false,
      )
    await until("it answers", answers, 60_000)
    await proxy.refuse()
    const away = Date.now()
    await until("it was away", async () => !(await answers()) && Date.now() - away > AWAY_MS, 60_000)
    await proxy.accept()
    const back = Date.now()
    await until("it answers again", answers, 60_000)
    assert.ok(Date.now() - back < BACK_MS, `only ${Date.now() - back} ms after it came back`)
    await engine.close()
    await proxy.close()
  })

  it("is not kept from others by calls that were given up", async () => {
    const proxy = await TcpProxy.to(Number(new URL(await milvusStandalone.url()).port))
    const engine = openMilvus({ url: through(proxy, await milvusStandalone.url()) })
    await until("it answers", () => engine.ping(within(20_000)).then(() => true), 60_000)
    proxy.delay(SLOW_MS)
    const controller = new AbortController()
    const scope = { ...within(60_000), signal: controller.signal }
    const givenUp = Array.from({ length: GIVEN_UP }, () => rejects(engine.ping(scope), "CANCELLED"))
    // A moment, so that they are under way.
    await new Promise((resolve) => setTimeout(resolve, SLOW_MS / 10))
    controller.abort()
    await Promise.all(givenUp)
    assert.equal(engine.stats().waiting, 0)
    await engine.ping(within(5 * SLOW_MS * 2))
    await engine.close()
    await proxy.close()
  })
})

describe("a password that changes", { skip: milvusStandalone.skip, timeout: 300_000 }, () => {
  it("is asked for at the next connection, and the old one is told apart from a server that is away", async (t) => {
    const url = new URL(await milvusStandalone.url())
    if (url.username === "") return t.skip("the server that was given has no logins")
    const admin = driverOf(url.href)
    const username = `u${randomUUID().slice(0, 8)}`
    let password = "the-first"
    checkStatus(await admin.createUser({ username, password }))
    checkStatus(await admin.addUserToRole({ username, roleName: "admin" }))
    url.username = username
    url.password = ""
    const engine = openMilvus({ url: url.href, password: async () => password })
    const works = () =>
      engine.verify(within(20_000)).then(
        () => "",
        (error: DomainError) => error.reason,
      )
    assert.equal(await works(), "")
    const newPassword = "the-second"
    checkStatus(await admin.updatePassword({ username, oldPassword: password, newPassword }))
    await until("the old password is refused", async () => (await works()) === "STORE_AUTH", 60_000)
    assert.equal(await works(), "STORE_AUTH", "and again")
    password = newPassword
    await until("the new one is taken", async () => (await works()) === "", 60_000)
    checkStatus(await admin.deleteUser({ username }))
    await until("nobody is let in", async () => (await works()) === "STORE_AUTH", 60_000)
    await engine.close()
    await admin.closeConnection()
  })
})

/** The driver itself, as who the URL says. */
function driverOf(server: string): MilvusClient {
  const { host: address, username, password } = new URL(server)
  return new MilvusClient({ address, username, password, logLevel: "none" })
}

/** The same server, by way of the proxy. */
function through({ port }: TcpProxy, server: string): string {
  const url = new URL(server)
  url.port = String(port)
  return url.href
}

describe("what is known of a failure", () => {
  const grpc = (code: number, details: string) => Object.assign(new Error(details), { code, details })
  it("tells what was not applied from what nobody knows", () => {
    const cases = [
      [
        grpc(14, "No connection established. Last error: connect ECONNREFUSED"),
        "STORE_UNAVAILABLE",
        "STORE_UNAVAILABLE",
      ],
      [grpc(14, "Connection dropped"), "STORE_UNAVAILABLE", "OUTCOME_UNKNOWN"],
      [
        grpc(4, "Deadline exceeded after 1s,LB pick: 1s,remote_addr=1.2.3.4:5"),
        "STORE_UNAVAILABLE",
        "OUTCOME_UNKNOWN",
      ],
      [grpc(16, "auth check failure, please check username and password"), "STORE_AUTH", "STORE_AUTH"],
      [new MilvusStatusError(8, "RateLimit", "rate limit exceeded"), "OVERLOADED", "OVERLOADED"],
      [new MilvusStatusError(9, "ForceDeny", "quota exceeded"), "STORE_FULL", "STORE_FULL"],
      [new MilvusStatusError(100, "CollectionNotExists", "gone"), "STORE_UNAVAILABLE", "STORE_UNAVAILABLE"],
      [new MilvusStatusError(65_535, "UnexpectedError", "something"), "STORE_UNAVAILABLE", "OUTCOME_UNKNOWN"],
      [new TypeError("the driver stumbles"), "STORE_UNAVAILABLE", "OUTCOME_UNKNOWN"],
    ] as const
    for (const [error, read, write] of cases) {
      assert.equal(toDomainError(error, "read").reason, read, error.message)
      assert.equal(toDomainError(error, "write").reason, write, error.message)
      assert.ok(!toDomainError(error, "write").message.includes(error.message))
    }
  })

  it("takes an answer without a status for a failure", () => {
    assert.throws(() => checkStatus({}), /does not know/)
    assert.throws(() => checkStatus(undefined), /does not know/)
    assert.throws(
      () => checkStatus({ status: { error_code: "UnexpectedError", reason: "no" } }),
      MilvusStatusError,
    )
    assert.throws(() => checkStatus({ error_code: "Success", code: 5 }), MilvusStatusError)
    checkStatus({ status: { error_code: "Success", code: 0 } })
    checkStatus({ error_code: "Success" })
  })

  it("reads addresses and refuses what it does not know, without quoting it", () => {
    assert.deepEqual(parseAddress("milvus://me:p%40ss@host/db?tls=true"), {
      address: "host:19530",
      username: "me",
      password: "p@ss",
      database: "db",
      tls: true,
      caFile: undefined,
    })
    assert.equal(parseAddress("milvus://host:1").database, "default")
    for (const url of [
      "nonsense",
      "http://secret@host",
      "milvus://u:secret@host?tls=maybe",
      "milvus://u:secret@h?x=1",
    ]) {
      assert.throws(
        () => parseAddress(url),
        (error: Error) => !error.message.includes("secret"),
      )
    }
  })
})

for (const on of [milvusStandalone, milvusLite]) {
  describe(`places on ${on.name}`, { skip: on.skip, timeout: 300_000 }, () => {
    it("keeps owners apart in one collection of the server and in collections of their own", async () => {
      for (const isolation of ["shared", "own"] as const) {
        const engine = await testMilvus(on, { isolation })
        const { vectors } = engine
        const [mine, theirs] = [within(120_000), within(120_000)]
        await Promise.all([mine, theirs].map((scope) => vectors.write(scope, place, [row])))
        const other = { ...collection, ref: "2" }
        await vectors.write(mine, other, [{ ...row, id: "b" }])
        assert.equal(await vectors.count(mine, collection, undefined), 1)
        assert.deepEqual(await vectors.get(mine, other, ["a"], ID_ONLY), [])
        await vectors.remove(theirs, collection, ["a", "b"])
        assert.equal(await vectors.count(theirs, collection, undefined), 0)
        assert.equal(await vectors.count(mine, collection, undefined), 1)
        await vectors.drop(mine, other)
        assert.equal(await vectors.count(mine, other, undefined), 0)
        const eraser = engine.eraser("vectors")
        assert.equal(await eraser.holds(mine), true)
        assert.deepEqual(await eraser.erase(mine), [{ store: "vectors", what: "vectors", count: 1 }])
        assert.equal(await eraser.holds(mine), false)
      }
    })

    it("sweeps what has expired, so many at once, of one tenant or of all", async () => {
      const clock = { nowMs: 1_000, now: () => clock.nowMs }
      const { vectors } = await testMilvus(on, { clock })
      const [mine, theirs] = [within(120_000), within(120_000)]
      const ending = ["a", "b", "c"].map((id) => ({ ...row, id, expireTimeMs: 2_000 }))
      await vectors.write(mine, place, [...ending, { ...row, id: "stays" }])
      await vectors.write(theirs, place, ending)
      assert.equal(await vectors.count(mine, collection, undefined), 4)
      assert.equal(await vectors.sweep(mine, 10), 0)
      clock.nowMs = 2_000
      assert.equal(await vectors.count(mine, collection, undefined), 1)
      assert.equal(await vectors.sweep(mine, 2), 2)
      assert.equal(await vectors.sweep(mine, 10), 1)
      assert.equal(await vectors.sweep({ ...systemScope(), deadlineMs: mine.deadlineMs }, 10), 3)
      assert.equal(await vectors.sweep(theirs, 10), 0)
    })

    it("finishes a collection that a daemon died over, after it was made and before its index was", async () => {
      const prefix = `t${randomUUID().replaceAll("-", "")}`
      const engine = await testMilvus(on, { prefix })
      const scope = within(120_000)
      const maker = driverOf(await on.url())
      await maker.connectPromise
      await engine.vectors.write(scope, place, [row])
      const { data } = await maker.showCollections()
      const made = data.filter(({ name }) => name.startsWith(`${prefix}_`))
      assert.equal(made.length, 1)
      const collection_name = made[0]?.name ?? ""
      checkStatus(await maker.releaseCollection({ collection_name }))
      checkStatus(
        await maker.dropIndex({ collection_name, field_name: "embedding", index_name: "embedding" }),
      )
      await maker.closeConnection()
      const next = await testMilvus(on, { prefix })
      await next.vectors.write(scope, place, [{ ...row, id: "b" }])
      assert.equal(await next.vectors.count(scope, collection, undefined), 2)
    })

    it("makes a collection anew that the server has lost", async () => {
      const engine = await testMilvus(on)
      const scope = within(120_000)
      await engine.vectors.write(scope, place, [row])
      await engine.reset(scope)
      await engine.vectors.write(scope, place, [row])
      assert.equal(await engine.vectors.count(scope, collection, undefined), 1)
    })
  })
}
