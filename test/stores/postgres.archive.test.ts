/** A tenant moves between databases and is the same afterwards; what is not whole, or would mix with something, is refused. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import type { Lines } from "../../src/domain/archive/format.ts"
import { verifyArchive } from "../../src/domain/archive/format.ts"
import { KINDS, type Kind } from "../../src/domain/archive/model.ts"
import { verifyAudit } from "../../src/domain/event/audit-verify.ts"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import type { DomainError } from "../../src/domain/kernel/errors.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { createPostgresAuditStore } from "../../src/stores/postgres/audit-store.ts"
import { createConfigStore } from "../../src/stores/postgres/config-store.ts"
import { createPostgresEventStore } from "../../src/stores/postgres/event-store.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { sqlEngines } from "../engines/sql-suites.ts"
import { exported, imported, itemsIn, linesOf, sqlPlace } from "./archive-support.ts"
import { insertReleasedRows, RELEASED_TENANT } from "./released-rows.ts"

const scope = systemScope(RELEASED_TENANT)

const says = (pattern: RegExp) => (error: unknown) => {
  assert.equal((error as DomainError).reason, "FAILED_PRECONDITION", String(error))
  assert.match((error as DomainError).message, pattern)
  return true
}

let archive: string[] = []

describe("an archive of a tenant", { timeout: 600_000 }, () => {
  let source: SqlEngine
  before(async () => {
    source = await open("PGlite")
    await source.asOwner(insertReleasedRows)
    await source.database.query(scope, {
      text: "insert into usage_months values ($1, 'tokens', '2026-02-01', 12345678901234567890.5, 7, 9007199254740993)",
      values: [RELEASED_TENANT],
    })
    archive = await exported(sqlPlace(source), RELEASED_TENANT)
  })
  after(() => source?.close())

  it("has items of every kind, and says how many", async () => {
    const { header, counts } = await verifyArchive(linesOf(archive))
    assert.equal(header.tenant, RELEASED_TENANT)
    assert.equal(header.engines.memory, "pglite")
    assert.deepEqual(Object.keys(counts).sort(), Object.keys(KINDS).sort())
    assert.equal(counts.record, 10)
    assert.equal(counts.event, 5)
  })

  it("is the same when it is made again", async () => {
    assert.deepEqual((await exported(sqlPlace(source), RELEASED_TENANT)).slice(1, -1), archive.slice(1, -1))
  })

  it("has running jobs queued, and nobody's lease", () => {
    const job = archive.map((line) => JSON.parse(line)).find(({ kind, id }) => kind === "job" && id === "j2")
    assert.equal(job.status, "queued")
    assert.equal(job.attemptsLeft, 2)
    assert.equal(job.history[0].outcome, "lease_expired")
  })

  it("is refused when it was cut short or changed, wherever", async () => {
    for (const length of [0, 1, 2, archive.length - 1])
      await assert.rejects(verifyArchive(linesOf(archive.slice(0, length))), says(/cut short|no archive/))
    const half = archive.with(-1, (archive.at(-1) ?? "").slice(0, 20))
    await assert.rejects(verifyArchive(linesOf(half)), says(/cut short/))
    const at = archive.findIndex((line) => line.includes('"kind":"user"'))
    const changed = archive.with(at, (archive[at] ?? "").replace("Uma", "Eve"))
    await assert.rejects(verifyArchive(linesOf(changed)), says(/changed or damaged/))
    const torn = archive.with(at, '{"kind":"user","id":"u1"}')
    await assert.rejects(verifyArchive(linesOf(torn)), says(new RegExp(`line ${at + 1} has no displayName`)))
    const foreign = archive.with(at, '{"kind":"spell"}')
    await assert.rejects(verifyArchive(linesOf(foreign)), says(/of no kind/))
    const newer = archive.with(0, (archive[0] ?? "").replace('"version":1', '"version":2'))
    await assert.rejects(verifyArchive(linesOf(newer)), says(/version 2/))
    await assert.rejects(verifyArchive(linesOf([...archive, archive[1] ?? ""])), says(/after the end/))
  })

  it("is not made of a tenant that does not exist, or has work under way", async () => {
    const place = sqlPlace(source)
    await assert.rejects(exported(place, "nobody" as typeof RELEASED_TENANT), { reason: "NOT_FOUND" })
    await source.database.query(scope, {
      text: `insert into outbox (topic, tenant, key, op_id, payload, trace_parent) values ('audit', $1, '', 'x', '\\x', '')`,
      values: [RELEASED_TENANT],
    })
    await assert.rejects(exported(place, RELEASED_TENANT), says(/1 audit records on their way/))
    await source.database.query(scope, {
      text: "delete from outbox where tenant = $1",
      values: [RELEASED_TENANT],
    })
  })
})

async function open(name: string): Promise<SqlEngine> {
  const engine = sqlEngines.find((candidate) => candidate.name === name)
  if (engine === undefined) throw new Error(`no engine ${name}`)
  return engine.open()
}

for (const { name, skip } of sqlEngines) {
  describe(`an import on ${name}`, { skip, timeout: 600_000 }, () => {
    let target: SqlEngine
    before(async () => {
      target = await open(name)
    })
    after(() => target?.close())

    it("goes on after it was interrupted, and takes no other archive meanwhile", async () => {
      const place = sqlPlace(target)
      const until = (kind: Kind) =>
        async function* (lines: Lines) {
          for await (const line of lines) {
            if (line.includes(`"kind":"${kind}"`)) throw new Error("the power is off")
            yield line
          }
        }
      for (const kind of ["snapshot", "auditRecord", "apiKey"] as const) {
        await assert.rejects(imported(place, archive, until(kind)), /the power is off/)
      }
      const other = [JSON.stringify({ ...JSON.parse(archive[0] ?? ""), id: "another" }), ...archive.slice(1)]
      const { header } = await verifyArchive(linesOf(archive))
      const { importTenant } = await import("../../src/domain/archive/move-tenant.ts")
      await assert.rejects(
        importTenant(scope, place.archives, place.marks, { ...header, id: "another" }, linesOf(other)),
        says(/import of another archive .* was interrupted/),
      )
      assert.deepEqual(await imported(place, archive), [])
      assert.deepEqual(itemsIn(await exported(place, RELEASED_TENANT)), itemsIn(archive))
    })

    it("is refused where there is something of the tenant", async () => {
      await assert.rejects(
        imported(sqlPlace(target), archive),
        says(
          /not empty here: there is something of it in memory, streams, sessions, audit, configs, jobs, control/,
        ),
      )
    })

    it("keeps the order of the feed, the chain of the audit log and the numbers of revisions", async () => {
      const deps = { clock: systemClock, concurrency: target.capabilities.concurrency }
      const events = createPostgresEventStore(target.database, deps)
      const feed = await events.readFeed(scope, { types: [], after: undefined, limit: 100 })
      const names = feed.events.map(({ event }) => `${event.stream}/${event.revision}`)
      const before = archive.map((line) => JSON.parse(line)).filter(({ kind }) => kind === "event")
      assert.deepEqual(
        names,
        before.map(({ stream, revision }) => `${stream}/${revision}`),
      )
      const audit = createPostgresAuditStore(target.database, deps)
      assert.equal((await verifyAudit(scope, audit, { maxDays: 10 })).firstBreak, undefined)
      await audit.record(scope, [{ actor: "a", action: "b", resourceType: "c", outcome: "success" }])
      assert.equal((await verifyAudit(scope, audit, { maxDays: 10 })).firstBreak, undefined)
      const memory = createMemoryStore({ database: target.database, ...deps })
      const collection = await memory.getCollection(scope, "facts")
      const [receipt] = await memory.upsert(scope, collection, [
        {
          id: "new",
          text: "",
          vector: Float32Array.of(1, 2, 3),
          metadata: {},
          expireTimeMs: undefined,
          ifRevisionMatch: undefined,
        },
      ])
      assert.ok((receipt?.revision ?? 0n) > 12n)
      await memory.close()
      const configs = createConfigStore({ database: target.database, clock: systemClock })
      assert.equal((await configs.get(scope, "limits")).version, 1n)
    })
  })
}
