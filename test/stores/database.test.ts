import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import type { Database, Statement } from "../../src/stores/postgres/database.ts"
import { isUniqueViolation } from "../../src/stores/postgres/errors.ts"
import {
  assertIsolation,
  getOrCreateSecret,
  type SqlEngine,
  sweepIdempotency,
} from "../../src/stores/postgres/index.ts"
import { PGLITE_SKIPS } from "../contract/exceptions.ts"
import { freshTenant } from "../engines/pglite.ts"
import { sqlEnginesAndPooler } from "../engines/sql-suites.ts"

function reason(expected: string) {
  return (error: unknown) => {
    assert.ok(error instanceof DomainError, String(error))
    assert.equal(error.reason, expected, String(error.cause))
    return true
  }
}

/** A row of a table that is there on every engine; `id` stands for any key. */
function insert(tenant: TenantId, id: string): Statement {
  return {
    name: "test_insert",
    text: `insert into keelplane.idempotency (tenant, method, request_id, operation, body_hash, created_at, expires_at)
      values ($1, 'test', $2, '', '', now(), now() + interval '1 day')`,
    values: [tenant, id],
  }
}

const ids: Statement = {
  text: "select request_id as id from keelplane.idempotency where method = 'test' order by 1",
}

async function idsOf(database: Database, scope: CallScope): Promise<unknown[]> {
  return (await database.query(scope, ids)).rows.map((row) => row.id)
}

/** Runs for `seconds` on any engine. */
function slow(seconds: number): Statement {
  return { text: "select pg_sleep($1)", values: [seconds] }
}

/** Resolves when `check` is true. */
async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await check())) await new Promise((resolve) => setImmediate(resolve))
}

for (const { name, skip, open } of await sqlEnginesAndPooler()) {
  describe(`Database on ${name}`, { timeout: 120_000, skip }, () => {
    let engine: SqlEngine
    let database: Database
    before(async () => {
      engine = await open()
      database = engine.database
    })
    after(() => engine.close())

    describe("tenancy", () => {
      it("shows a tenant its own rows only, even to a statement that forgets the tenant", async () => {
        const [a, b] = [systemScope(freshTenant()), systemScope(freshTenant())]
        await database.query(a, insert(a.tenant, "same"))
        await database.query(b, insert(b.tenant, "same"))
        await database.query(b, insert(b.tenant, "more"))
        assert.deepEqual(await idsOf(database, a), ["same"])
        assert.deepEqual(await idsOf(database, b), ["more", "same"])
        const { count } = await database.query(a, {
          text: "delete from keelplane.idempotency where method = 'test'",
        })
        assert.equal(count, 1)
        assert.deepEqual(await idsOf(database, b), ["more", "same"])
      })

      it("refuses to write a row of another tenant, or to move one there", async () => {
        const [a, b] = [systemScope(freshTenant()), systemScope(freshTenant())]
        await assert.rejects(database.query(a, insert(b.tenant, "x")), reason("INTERNAL"))
        await database.query(a, insert(a.tenant, "mine"))
        const move = {
          text: "update keelplane.idempotency set tenant = $1 where method = 'test'",
          values: [b.tenant],
        }
        await assert.rejects(database.query(a, move), reason("INTERNAL"))
        assert.deepEqual(await idsOf(database, b), [])
      })

      it("forgets the tenant with the transaction", async () => {
        const scope = systemScope(freshTenant())
        await database.query(scope, insert(scope.tenant, "x"))
        const nobody = systemScope("" as TenantId)
        assert.deepEqual(await idsOf(database, nobody), [])
        await assert.rejects(database.query(nobody, insert(nobody.tenant, "x")), reason("INTERNAL"))
      })

      it("passes the check at start-up", async () => {
        await assertIsolation(database)
      })

      it("lets the platform see every tenant", async () => {
        const scope = systemScope(freshTenant())
        await database.query(scope, insert(scope.tenant, "seen"))
        const count = {
          text: "select count(*) from keelplane.idempotency where tenant = $1",
          values: [scope.tenant],
        }
        assert.deepEqual((await database.query(systemScope(), count)).rows, [{ count: 1n }])
      })
    })

    describe("values", () => {
      it("brings every type back as it went in", async () => {
        const values = [
          9_007_199_254_740_993n,
          new Date("2026-01-02T03:04:05.678Z"),
          Buffer.from([0, 255, 92]),
          'ü🦜"\\{},\n',
          { a: [1, "x\\u0000y", null], ü: '"' },
          ["a", 'b"\\,{}', "", "NULL", null],
          [1n, -2n],
          [new Date(0)],
          [Buffer.from([1, 92])],
          0.1,
          true,
          null,
        ]
        const types = [
          "int8",
          "timestamptz",
          "bytea",
          "text",
          "jsonb",
          "text[]",
          "int8[]",
          "timestamptz[]",
          "bytea[]",
        ]
        types.push("float8", "bool", "text")
        const text = `select ${types.map((type, i) => `$${i + 1}::${type} as c${i}`).join(", ")}`
        const { rows } = await database.query(systemScope(freshTenant()), { text, values })
        assert.deepEqual(Object.values(rows[0] ?? {}), values)
      })

      it("reads every time to the millisecond, once described and when described before", async () => {
        const times = [
          ["2026-01-02 03:04:05+00", "2026-01-02T03:04:05.000Z"],
          ["2026-12-31 23:59:59.1+00", "2026-12-31T23:59:59.100Z"],
          ["2024-02-29 00:00:00.042+00", "2024-02-29T00:00:00.042Z"],
          ["2026-01-02 03:04:05.123999+00", "2026-01-02T03:04:05.123Z"],
          ["2026-01-02 03:04:05+05:30", "2026-01-01T21:34:05.000Z"],
          ["0099-01-02 03:04:05+00", "0099-01-02T03:04:05.000Z"],
          ["1969-12-31 23:59:59.999+00", "1969-12-31T23:59:59.999Z"],
        ] as const
        const statement = { name: "test_times", text: "select $1::timestamptz as time", values: [""] }
        for (let turn = 0; turn < 2; turn++) {
          for (const [text, expected] of times) {
            const { rows } = await database.query<{ time: Date }>(systemScope(freshTenant()), {
              ...statement,
              values: [text],
            })
            assert.equal(rows[0]?.time.toISOString(), expected, text)
          }
        }
      })

      it("answers text that cannot be stored with INVALID_FIELD, and goes on", async () => {
        const scope = systemScope(freshTenant())
        const bad = [
          "a\0b",
          "\ud800",
          ["\0"],
          { a: "\0" },
          { "\udc00": 1 },
          new Date(Number.NaN),
          new Date(8.64e15),
        ]
        for (const value of bad) {
          await assert.rejects(
            database.query(scope, { text: "select $1::text", values: [value] }),
            reason("INVALID_FIELD"),
          )
        }
        const json = { text: "select $1::jsonb", values: ['"\\u0000"'] }
        await assert.rejects(database.query(scope, json), reason("INVALID_FIELD"))
        await assert.rejects(
          database.transaction(scope, (tx) => tx.query(json)),
          reason("INVALID_FIELD"),
        )
        await assert.rejects(database.query(scope, { text: "select 1/0" }), reason("INVALID_FIELD"))
        assert.deepEqual((await database.query(scope, { text: "select 1 as x" })).rows, [{ x: 1 }])
      })

      it("carries large values and many rows", async () => {
        const scope = systemScope(freshTenant())
        const big = "x".repeat(9_000_000)
        const { rows } = await database.query(scope, { text: "select $1::text as big", values: [big] })
        assert.equal(rows[0]?.big, big)
        const many = { text: "select i, repeat('y', 100) as t from generate_series(1, 50000) i" }
        assert.equal((await database.query(scope, many)).rows.length, 50_000)
      })
    })

    describe("pipeline and transaction", () => {
      it("applies all or nothing", async () => {
        const scope = systemScope(freshTenant())
        const fails: Statement = { text: "select 1/0" }
        await assert.rejects(database.pipeline(scope, [insert(scope.tenant, "a"), fails]))
        await assert.rejects(
          database.transaction(scope, async (tx) => {
            await tx.query(insert(scope.tenant, "b"))
            throw new DomainError("NOT_FOUND", "no")
          }),
          reason("NOT_FOUND"),
        )
        assert.deepEqual(await idsOf(database, scope), [])
        const [first, second] = await database.pipeline(scope, [insert(scope.tenant, "c"), ids])
        assert.equal(first?.count, 1)
        assert.deepEqual(second?.rows, [{ id: "c" }])
      })

      it("keeps prepared statements straight when a pipeline fails between them", async () => {
        const scope = systemScope(freshTenant())
        const named = (name: string, text: string): Statement => ({ name, text })
        const good = named("test_good", "select 1 as x")
        const late = named("test_late", "select 2 as x")
        await assert.rejects(
          database.pipeline(scope, [good, { text: "select nonsense()" }, late]),
          reason("SCHEMA_MISMATCH"),
        )
        for (let i = 0; i < 3; i++) {
          const results = await database.pipeline(scope, [good, late, good])
          assert.deepEqual(
            results.map(({ rows }) => rows[0]?.x),
            [1, 2, 1],
          )
        }
      })

      it("tells a unique violation inside `work` and outside", async () => {
        const scope = systemScope(freshTenant())
        await database.query(scope, insert(scope.tenant, "twice"))
        let seen = false
        await assert.rejects(
          database.transaction(scope, async (tx) => {
            await tx.query(insert(scope.tenant, "twice")).catch((error) => {
              seen = isUniqueViolation(error, "idempotency_pkey")
              throw new DomainError("ALREADY_EXISTS", "it does")
            })
          }),
          reason("ALREADY_EXISTS"),
        )
        assert.ok(seen)
        await assert.rejects(database.query(scope, insert(scope.tenant, "twice")), (error) =>
          isUniqueViolation(error),
        )
      })

      it("does not report success when `work` swallowed a statement's failure", async () => {
        const scope = systemScope(freshTenant())
        const swallow = database.transaction(scope, async (tx) => {
          await tx.query(insert(scope.tenant, "lost"))
          await tx.query({ text: "select 1/0" }).catch(() => undefined)
        })
        await assert.rejects(swallow, reason("INTERNAL"))
        assert.deepEqual(await idsOf(database, scope), [])
      })

      it("refuses a transaction's statements after its end", async () => {
        const scope = systemScope(freshTenant())
        const tx = await database.transaction(scope, async (open) => {
          await open.query(ids)
          return open
        })
        await assert.rejects(tx.query(ids), reason("INTERNAL"))
      })

      it("runs a transaction again that lost against another one", async () => {
        const scope = systemScope(freshTenant())
        let runs = 0
        const answer = await database.transaction(scope, async (tx) => {
          runs++
          await tx.query(insert(scope.tenant, "once"))
          if (runs < 3)
            await tx.query({ text: "do $$ begin raise exception using errcode = '40001'; end $$" })
          return "done"
        })
        assert.equal(answer, "done")
        assert.equal(runs, 3)
        assert.deepEqual(await idsOf(database, scope), ["once"])
        const always: Statement = { text: "do $$ begin raise exception using errcode = '40P01'; end $$" }
        await assert.rejects(database.query(scope, always), reason("OVERLOADED"))
      })
    })

    describe("mutate", () => {
      const body = (text: string) => Buffer.from(text.padEnd(32))
      const keyed = (tenant: TenantId, requestId: string, bodyText = "body"): CallScope => ({
        ...systemScope(tenant),
        idempotency: { method: "keelplane.v1.Test/Do", requestId, bodyHash: body(bodyText) },
      })

      it("runs once for a hundred callers with one key, and gives all of them one answer", async () => {
        const scope = keyed(freshTenant(), "r1")
        let runs = 0
        const once = () =>
          database.mutate(scope, "do", async (tx) => {
            runs++
            await tx.query(insert(scope.tenant, "effect"))
            return { at: new Date(runs), revision: 1n, bytes: new Uint8Array([1, 2]), none: undefined }
          })
        const answers = await Promise.all(Array.from({ length: 100 }, once))
        assert.equal(runs, 1)
        for (const answer of answers) assert.deepEqual(answer, answers[0])
        assert.deepEqual(await idsOf(database, scope), ["effect"])
      })

      it("refuses the key with another body and keeps keys of tenants, methods and operations apart", async () => {
        const tenant = freshTenant()
        const answer = (scope: CallScope, operation: string, value: string) =>
          database.mutate(scope, operation, async () => value)
        assert.equal(await answer(keyed(tenant, "r"), "do", "first"), "first")
        assert.equal(await answer(keyed(tenant, "r"), "do", "second"), "first")
        assert.equal(await answer(keyed(tenant, "r"), "other", "second"), "second")
        assert.equal(await answer(keyed(tenant, "R"), "do", "third"), "third")
        assert.equal(await answer(keyed(freshTenant(), "r"), "do", "fourth"), "fourth")
        await assert.rejects(answer(keyed(tenant, "r", "changed"), "do", "x"), reason("REQUEST_ID_REUSED"))
      })

      it("keeps nothing of a failure, so that a repetition runs again", async () => {
        const scope = keyed(freshTenant(), "r")
        const failing = database.mutate(scope, "do", async (tx) => {
          await tx.query(insert(scope.tenant, "half"))
          throw new DomainError("FAILED_PRECONDITION", "not yet")
        })
        await assert.rejects(failing, reason("FAILED_PRECONDITION"))
        assert.equal(await database.mutate(scope, "do", async () => "now"), "now")
        assert.deepEqual(await idsOf(database, scope), [])
      })

      it("forgets expired answers, at the latest when they are swept", async () => {
        const scope = keyed(freshTenant(), "r")
        await database.mutate(scope, "do", async () => "old")
        const day = 25 * 3_600_000
        const swept = await sweepIdempotency(database, Date.now() + day, 1000)
        assert.ok(swept >= 1)
        assert.equal(await database.mutate(scope, "do", async () => "new"), "new")
      })
    })

    describe("leaving early", () => {
      it("does nothing when the deadline is past or the signal aborted", async () => {
        const scope = systemScope(freshTenant())
        const write = (early: CallScope) => database.query(early, insert(scope.tenant, "never"))
        await assert.rejects(write({ ...scope, deadlineMs: Date.now() - 1 }), reason("DEADLINE_EXCEEDED"))
        await assert.rejects(write({ ...scope, signal: AbortSignal.abort() }), reason("CANCELLED"))
        assert.deepEqual(await idsOf(database, scope), [])
      })

      it("does nothing when the caller leaves while all connections are in use", async () => {
        const scope = systemScope(freshTenant())
        const leave = new AbortController()
        let release = () => {}
        const held = new Promise<void>((resolve) => {
          release = resolve
        })
        const holders = Array.from({ length: engine.capabilities.concurrency }, () =>
          database.transaction(scope, async (tx) => {
            await tx.query(ids)
            await held
          }),
        )
        await until(() => engine.stats().inUse === engine.capabilities.concurrency)
        const waiting = database.query({ ...scope, signal: leave.signal }, insert(scope.tenant, "never"))
        await until(() => engine.stats().waiting === 1)
        leave.abort()
        await assert.rejects(waiting, reason("CANCELLED"))
        assert.equal(engine.stats().waiting, 0)
        release()
        await Promise.all(holders)
        assert.deepEqual(await idsOf(database, scope), [])
      })

      it("answers at once when the caller leaves while a statement runs, and says what is known", async () => {
        const scope = systemScope(freshTenant())
        // A minute where the engine must cancel for this test to end in time.
        const seconds = engine.capabilities.cancel ? 60 : 0.3
        const leaving = async (run: (scope: CallScope) => Promise<unknown>) => {
          const leave = new AbortController()
          const running = run({ ...scope, signal: leave.signal })
          await until(() => engine.stats().inUse === 1)
          // The statement goes out with the connection, a turn later at most.
          await new Promise((resolve) => setImmediate(resolve))
          leave.abort()
          return running
        }
        await assert.rejects(
          leaving((left) => database.query(left, slow(seconds))),
          reason("CANCELLED"),
        )
        await until(() => engine.stats().inUse === 0)
        const write: Statement = {
          text: "insert into keelplane.platform_settings (key, value) select 'never', '' from pg_sleep($1)",
          values: [seconds],
        }
        await assert.rejects(
          leaving(({ signal }) => database.query({ ...systemScope(), signal }, write)),
          reason("OUTCOME_UNKNOWN"),
        )
        await until(() => engine.stats().inUse === 0)
        const half = (left: CallScope) =>
          database.transaction(left, async (tx) => {
            await tx.query(insert(scope.tenant, "half"))
            await tx.query(slow(seconds))
          })
        await assert.rejects(leaving(half), reason("CANCELLED"))
        assert.deepEqual(await idsOf(database, scope), [])
      })
    })

    describe("deadlines", () => {
      it("are kept by the server itself where it can", async (t) => {
        if (!engine.capabilities.cancel) return t.skip(PGLITE_SKIPS.timers)
        const scope = { ...systemScope(freshTenant()), deadlineMs: Date.now() + 200 }
        await assert.rejects(database.query(scope, slow(60)), reason("DEADLINE_EXCEEDED"))
      })
    })

    describe("upkeep", () => {
      it("reclaims dead rows on PGlite, table by table, until nothing is left to do", async () => {
        const scope = systemScope(freshTenant())
        const many = {
          text: `insert into keelplane.idempotency (tenant, method, request_id, operation, body_hash, created_at, expires_at)
            select $1, 'test', i::text, '', '', now(), now() from generate_series(1, 5000) i`,
          values: [scope.tenant],
        }
        const size = { text: "select pg_relation_size('keelplane.idempotency')::int as bytes" }
        const bytes = async () => Number((await database.query(scope, size)).rows[0]?.bytes)
        const churn = async () => {
          await database.query(scope, many)
          await database.query(scope, { text: "delete from keelplane.idempotency where method = 'test'" })
          while ((await engine.vacuum()).more);
        }
        await churn()
        const first = await bytes()
        for (let i = 0; i < 4; i++) await churn()
        if (engine.capabilities.engine === "pglite") assert.ok((await bytes()) <= first * 1.5)
        assert.deepEqual(await engine.vacuum(), { removed: 0, more: false })
      })
    })

    describe("the platform's secrets", () => {
      it("gives everyone the same one and shows it to no tenant", async () => {
        const all = await Promise.all(
          Array.from({ length: 5 }, () => getOrCreateSecret(database, "test-key", 32)),
        )
        for (const secret of all) assert.deepEqual(secret, all[0])
        assert.equal(all[0]?.length, 32)
        await assert.rejects(getOrCreateSecret(database, "test-key", 16), reason("SCHEMA_MISMATCH"))
        const read = { text: "select * from keelplane.platform_settings" }
        assert.deepEqual((await database.query(systemScope(freshTenant()), read)).rows, [])
      })
    })
  })

  describe(`Database on ${name}, closed`, { timeout: 60_000, skip }, () => {
    it("finishes what runs, then refuses", async () => {
      const engine = await open()
      const scope = systemScope(freshTenant())
      const running = engine.database.query(scope, { text: "select 1 as x" })
      await until(() => engine.stats().inUse > 0 || engine.stats().idle > 0)
      await Promise.all([running, engine.close()])
      await assert.rejects(engine.database.query(scope, ids), reason("STORE_UNAVAILABLE"))
      await assert.rejects(engine.ping(scope), reason("STORE_UNAVAILABLE"))
    })
  })
}
