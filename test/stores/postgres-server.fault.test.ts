/** A PostgreSQL server that goes away, comes back, refuses, or is told to stop. */
import assert from "node:assert/strict"
import { randomUUID } from "node:crypto"
import { afterEach, before, describe, it } from "node:test"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import type { CallScope } from "../../src/domain/kernel/scope.ts"
import { openServer } from "../../src/stores/postgres/index.ts"
import { administer, ownServerSkip } from "../engines/postgres.ts"
import { until } from "../support/until.ts"
import {
  backend,
  backends,
  fresh,
  insert,
  type OwnServer,
  ownServer,
  reason,
  running,
  sleep,
  slowWrite,
} from "./postgres-server.support.ts"

describe("a PostgreSQL server", { skip: ownServerSkip, timeout: 300_000 }, () => {
  let own: OwnServer
  before(async () => {
    own = await ownServer()
  })
  afterEach(() => own.closeAll())

  describe("restarted", () => {
    for (const mode of ["fast", "immediate"] as const) {
      it(`is used again without a failed call after a stop (${mode})`, async () => {
        const { database, stats } = await own.open({ max: 4 })
        await backends(database, 4)
        assert.equal(stats().idle, 4)
        await own.server.stop(mode)
        await assert.rejects(database.query(fresh(), { text: "select 1" }), reason("STORE_UNAVAILABLE"))
        assert.deepEqual(stats(), { inUse: 0, idle: 0, waiting: 0 })
        await own.server.start()
        await backends(database, 4)
      })
    }

    it("tells a write that it cut off as unknown, a read and half a transaction as not applied", async () => {
      const { database, stats } = await own.open()
      const scope = fresh()
      const tag = randomUUID()
      const cut = [
        [database.query(scope, sleep(tag)), "STORE_UNAVAILABLE"],
        [database.query(fresh(), slowWrite(tag)), "OUTCOME_UNKNOWN"],
        [
          database.transaction(scope, async (tx) => {
            await tx.query(insert(scope.tenant, "half"))
            await tx.query(sleep(tag))
          }),
          "STORE_UNAVAILABLE",
        ],
      ] as const
      const checks = cut.map(([call, expected]) => assert.rejects(call, reason(expected)))
      await until("all three run", async () => (await running(own.server.url, tag)) === 3)
      await own.server.stop("immediate")
      await Promise.all(checks)
      await own.server.start()
      await until("nothing is held", () => stats().inUse === 0)
      const read = { text: "select request_id from keelplane.idempotency where method = 'test'" }
      assert.equal((await database.query(scope, read)).count, 0)
    })

    it("replaces idle connections that the server ended one by one", async () => {
      const { database, stats } = await own.open({ max: 2 })
      const [one, two] = await backends(database, 2)
      await administer(own.server.url, `select pg_terminate_backend(${one}), pg_terminate_backend(${two})`)
      await until("both are gone", () => stats().idle === 0)
      const next = await backends(database, 2)
      assert.ok(next.every((pid) => pid !== one && pid !== two))
    })
  })

  describe("whose caller leaves", () => {
    const ways: readonly (readonly [string, (scope: CallScope) => CallScope, readonly Reason[]])[] = [
      ["at its deadline", (scope) => deadline(scope, 400), ["DEADLINE_EXCEEDED", "OUTCOME_UNKNOWN"]],
      [
        "by cancelling",
        (scope) => ({ ...scope, signal: AbortSignal.timeout(400) }),
        ["CANCELLED", "OUTCOME_UNKNOWN"],
      ],
    ]
    for (const [how, leaving, expected] of ways) {
      it(`${how}, answers at once and goes on with nothing`, async (t) => {
        const { database, stats } = await own.open({ max: 3 })
        // Connections are there beforehand, so that the time measured is that of the statement.
        const before = await backends(database, 3)
        const tag = randomUUID()
        const started = performance.now()
        const left = [
          database.query(leaving(fresh()), sleep(tag)),
          database.query(leaving(fresh()), slowWrite(tag)),
          database.transaction(leaving(fresh()), (tx) => tx.query(sleep(tag))),
        ]
        await Promise.all(left.map((call) => assert.rejects(call, reason(...expected))))
        t.diagnostic(`answered ${Math.round(performance.now() - started - 400)} ms after the caller left`)
        await until("no statement runs on", async () => (await running(own.server.url, tag)) === 0)
        t.diagnostic(`stopped ${Math.round(performance.now() - started - 400)} ms after the caller left`)
        await until("all connections are back", () => stats().inUse === 0)
        const after = await backends(database, 3)
        assert.deepEqual(after, before, "cancelling costs no connection")
      })
    }

    it("gets its connections back from a server that hangs", async () => {
      const { database, stats } = await own.open({ max: 2, connectMs: 500 })
      await backends(database, 2)
      const idle = await own.open({ connectMs: 500 })
      await idle.ping(fresh())
      const { pid } = own.server
      const pids = [pid, ...own.server.backends()]
      for (const each of pids) process.kill(each, "SIGSTOP")
      try {
        const call = (scope: CallScope) => database.query(scope, { text: "select 1" })
        await Promise.all(
          [1, 2].map(() => assert.rejects(call(deadline(fresh(), 300)), reason("DEADLINE_EXCEEDED"))),
        )
        await until("the connections are dropped", () => stats().inUse === 0)
        await assert.rejects(call(fresh()), reason("STORE_UNAVAILABLE"))
        await idle.close()
      } finally {
        for (const each of pids) process.kill(each, "SIGCONT")
      }
      await database.query(fresh(), { text: "select 1" })
    })
  })

  describe("that refuses", () => {
    const at = (change: (url: URL) => void): string => {
      const url = new URL(own.server.url)
      change(url)
      return url.href
    }
    const ping = async (url: string) => {
      const engine = await openServer({ url })
      try {
        await engine.ping(fresh())
      } finally {
        await engine.close()
      }
    }

    it("a database that is not there, or not migrated, is a schema's fault", async () => {
      await administer(own.server.url, "create database bare")
      for (const name of ["nowhere", "bare"]) {
        const url = at((u) => {
          u.pathname = `/${name}`
        })
        if (name === "nowhere") await assert.rejects(ping(url), reason("SCHEMA_MISMATCH"))
        const engine = await own.open({ url })
        const read = { text: "select * from keelplane.idempotency" }
        await assert.rejects(engine.database.query(fresh(), read), reason("SCHEMA_MISMATCH"))
      }
    })

    it("a login without rights is refused as such", async () => {
      await administer(own.server.url, "create role stranger login")
      const url = at((u) => {
        u.username = "stranger"
      })
      await assert.rejects(ping(url), reason("STORE_AUTH"))
      const nobody = at((u) => {
        u.username = "nobody-knows"
      })
      await assert.rejects(ping(nobody), reason("STORE_AUTH"))
      await administer(own.server.url, "create table public.closed (a int)")
      const engine = await own.open()
      await assert.rejects(
        engine.database.query(fresh(), { text: "select * from public.closed" }),
        reason("STORE_AUTH"),
      )
    })

    it("an address where nobody listens is a store that is away", async () => {
      for (const host of ["127.0.0.1:1", "keelplane.invalid:5432"]) {
        await assert.rejects(ping(`postgres://postgres@${host}/postgres`), reason("STORE_UNAVAILABLE"))
      }
      await assert.rejects(ping("postgres://postgres@/postgres?host=/nowhere"), reason("STORE_UNAVAILABLE"))
    })

    it("a login that is shut out for want of connections waits its turn", async () => {
      await administer(
        own.server.url,
        "create role narrow login connection limit 1",
        "grant keelplane_app to narrow",
      )
      const url = at((u) => {
        u.username = "narrow"
      })
      const [one, two] = [await own.open({ url, max: 1 }), await own.open({ url })]
      await one.ping(fresh())
      await assert.rejects(two.ping(fresh()), reason("OVERLOADED"))
      await one.close()
      await until("the place is free", () =>
        two.ping(fresh()).then(
          () => true,
          () => false,
        ),
      )
    })

    it("a server that can be read only is away for writes, and its connections are replaced", async () => {
      const { database } = await own.open({ max: 1 })
      const scope = fresh()
      const first = await backend(database)
      await administer(
        own.server.url,
        "alter system set default_transaction_read_only = on",
        "select pg_reload_conf()",
      )
      try {
        await until("writes fail", () =>
          database.query(scope, insert(scope.tenant, randomUUID())).then(
            () => false,
            (error) => reason("STORE_UNAVAILABLE")(error),
          ),
        )
        await assert.rejects(
          database.transaction(scope, (tx) => tx.query(insert(scope.tenant, randomUUID()))),
          reason("STORE_UNAVAILABLE"),
        )
        assert.notEqual(await backend(database), first)
      } finally {
        await administer(
          own.server.url,
          "set default_transaction_read_only = off",
          "alter system reset default_transaction_read_only",
          "select pg_reload_conf()",
        )
      }
      await until("writes pass", () =>
        database.query(scope, insert(scope.tenant, randomUUID())).then(
          () => true,
          () => false,
        ),
      )
    })
  })

  it("gives every failure that it names the reason that callers act on", async () => {
    const { database } = await own.open({ max: 1 })
    const expected: Readonly<Record<string, Reason>> = {
      "53100": "STORE_FULL",
      "53200": "OVERLOADED",
      "53400": "OVERLOADED",
      "55P03": "OVERLOADED",
      "40001": "OVERLOADED",
      "40P01": "OVERLOADED",
      "57P03": "STORE_UNAVAILABLE",
      "58030": "STORE_UNAVAILABLE",
      "08006": "STORE_UNAVAILABLE",
      "25P03": "STORE_UNAVAILABLE",
      "25006": "STORE_UNAVAILABLE",
      "57014": "DEADLINE_EXCEEDED",
      "22003": "INVALID_FIELD",
      "22P02": "INVALID_FIELD",
      "28P01": "STORE_AUTH",
      "42501": "STORE_AUTH",
      "42P01": "SCHEMA_MISMATCH",
      "42703": "SCHEMA_MISMATCH",
      "3F000": "SCHEMA_MISMATCH",
      "0A000": "INTERNAL",
      XX000: "INTERNAL",
    }
    for (const [code, wanted] of Object.entries(expected)) {
      const raise = { text: `do $$ begin raise exception 'secret' using errcode = '${code}'; end $$` }
      const seen: DomainError[] = []
      const note = (error: unknown) => {
        assert.ok(error instanceof DomainError)
        seen.push(error)
      }
      await database.query(fresh(), raise).catch(note)
      await database.transaction(fresh(), (tx) => tx.query(raise)).catch(note)
      assert.deepEqual(
        seen.map((error) => error.reason),
        [wanted, wanted],
        code,
      )
      assert.ok(seen.every((error) => !JSON.stringify([error.message, error.metadata]).includes("secret")))
    }
  })
})

describe("a PostgreSQL server that writes through to its disk", {
  skip: ownServerSkip,
  timeout: 120_000,
}, () => {
  it("keeps every write that it acknowledged before it was killed, and applies repetitions once", async () => {
    const { server, open, closeAll } = await ownServer({ fsync: true })
    const { database } = await open({ max: 4 })
    const scope = fresh()
    const acknowledged = new Set<string>()
    const attempted = new Set<string>()
    const write = (id: string) => {
      const idempotency = { method: "test/Write", requestId: id, bodyHash: Buffer.alloc(32) }
      return database.mutate({ ...scope, idempotency }, "write", async (tx) => {
        await tx.query(insert(scope.tenant, id))
        return id
      })
    }
    let stopped = false
    const writers = Array.from({ length: 8 }, async (_, writer) => {
      for (let i = 0; !stopped; i++) {
        const id = `${writer}-${i}`
        attempted.add(id)
        try {
          acknowledged.add(await write(id))
        } catch (error) {
          reason("OUTCOME_UNKNOWN", "STORE_UNAVAILABLE")(error)
          return
        }
      }
    })
    await until("writes are acknowledged", () => acknowledged.size > 50)
    await server.stop("immediate")
    stopped = true
    await Promise.all(writers)
    await server.start()
    const ids = async () => {
      const text = "select request_id as id from keelplane.idempotency where method = 'test' order by 1"
      return (await database.query<{ id: string }>(scope, { text })).rows.map(({ id }) => id)
    }
    const kept = new Set(await ids())
    assert.deepEqual(
      [...acknowledged].filter((id) => !kept.has(id)),
      [],
    )
    for (const id of attempted) assert.equal(await write(id), id)
    assert.deepEqual(await ids(), [...attempted].toSorted())
    await closeAll()
  })
})

/** Timers may fire a millisecond early; the deadline is past by then. */
function deadline(scope: CallScope, ms: number): CallScope {
  return { ...scope, deadlineMs: Date.now() + ms - 5, signal: AbortSignal.timeout(ms) }
}
