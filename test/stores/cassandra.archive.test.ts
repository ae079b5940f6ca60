/** A tenant moves between a database and a cluster and is the same afterwards; the cluster's stores go on with what was moved. */
import assert from "node:assert/strict"
import { after, before, describe, it } from "node:test"
import type { Lines } from "../../src/domain/archive/format.ts"
import { withArchivedHistory } from "../../src/domain/archive/job-history.ts"
import type { Kind } from "../../src/domain/archive/model.ts"
import { verifyAudit } from "../../src/domain/event/audit-verify.ts"
import { moveEndedJobs } from "../../src/domain/event/job-past.ts"
import { messageBatch } from "../../src/domain/event/session-message.ts"
import { systemClock } from "../../src/domain/kernel/clock.ts"
import { systemScope } from "../../src/domain/kernel/scope.ts"
import { createCassandraAuditArchive } from "../../src/stores/cassandra/archive-audit.ts"
import { createCassandraConfigArchive } from "../../src/stores/cassandra/archive-configs.ts"
import { createCassandraSessionArchive } from "../../src/stores/cassandra/archive-sessions.ts"
import { createCassandraStreamArchive } from "../../src/stores/cassandra/archive-streams.ts"
import { createCassandraAuditStore } from "../../src/stores/cassandra/audit-store.ts"
import { createCassandraConfigStore } from "../../src/stores/cassandra/config-store.ts"
import { createCassandraEventStore } from "../../src/stores/cassandra/event-store.ts"
import type { CassandraEngine } from "../../src/stores/cassandra/index.ts"
import { createCassandraJobHistory } from "../../src/stores/cassandra/job-history.ts"
import { createCassandraSessionStore } from "../../src/stores/cassandra/session-store.ts"
import { createSqlArchive } from "../../src/stores/postgres/archive.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createPostgresJobExits } from "../../src/stores/postgres/job-exits.ts"
import { jobItem } from "../../src/stores/postgres/job-item.ts"
import { cassandraSkip, testCassandra } from "../engines/cassandra.ts"
import { embeddedDatabase } from "../engines/pglite.ts"
import { exported, imported, itemsIn, type Place, sqlPlace } from "./archive-support.ts"
import { AT, insertReleasedRows, RELEASED_TENANT } from "./released-rows.ts"

const scope = systemScope(RELEASED_TENANT)
/** Small, so that what is moved has several. */
const bucketEvents = 256
const segmentRecords = 3

/** A stream of several buckets, the first of which are hidden. */
const LONG = `
select set_config('keelplane.tenant', '*', false);
insert into keelplane.streams (tenant, stream, head, first_revision, swept_before, created_at, recorded_at) values
  ('${RELEASED_TENANT}', 'long-1', 1500, 701, 701, '${AT}', '${AT}');
insert into keelplane.events (tenant, stream, revision, event_id, type, json, content_type, correlation_id, causation_id, trace_parent,
    occurred_at, recorded_at, size)
  select '${RELEASED_TENANT}', 'long-1', n, gen_random_uuid(), 'Long', '{"n":' || n || '}', '', '', '', '', '${AT}', '${AT}', 100
  from generate_series(701, 1500) n order by n;
select set_config('keelplane.tenant', '', false);
`

/** Jobs that have just ended, with all that one can have. */
const ENDED = `
select set_config('keelplane.tenant', '*', false);
insert into keelplane.jobs (tenant, id, queue, status, priority, max_attempts, attempts, attempts_left, dedupe_key, backoff,
    lease_ms, held_ms, payload_kind, payload, payload_type, payload_size, result_kind, result, result_type, result_size, progress, error,
    error_code, cost_amount, cost_currency, history, created_at, started_at, ended_at, expires_at, revision)
  select '${RELEASED_TENANT}', 'ended-' || n, 'mail', 'dead', -n, 3, 3, 0, 'again',
    '{"initial":0,"maximum":60000,"multiplier":1.5}', 30000, 30000, 'json', '\\x7b2261223a317d', null, 16, 'binary', '\\x00ff', 'x/y',
    5, '{"percent":50}', '{"message":"no","code":"E","details":{"at":[1,null]}}', 'E', '0.1000', 'EUR',
    array['{"number":3,"worker":"w","start":1,"end":2,"outcome":"failed","error":{"message":"no","code":"E"}}'::json],
    '${AT}', '${AT}', now, now + interval '365 days', 7
  from generate_series(1, 120) n, (select date_trunc('milliseconds', now()) as now) t;
select set_config('keelplane.tenant', '', false);
`

describe("an archive on Cassandra", { skip: cassandraSkip, timeout: 600_000 }, () => {
  let source: SqlEngine
  let beside: SqlEngine
  let cluster: CassandraEngine
  let place: Place
  let archive: string[] = []

  before(async () => {
    source = await embeddedDatabase()
    beside = await embeddedDatabase()
    cluster = await testCassandra()
    const { session: cql } = cluster
    place = sqlPlace(beside, [
      createCassandraStreamArchive({ cluster: cql, bucketEvents }),
      createCassandraSessionArchive(cql),
      createCassandraConfigArchive(cql),
      createCassandraAuditArchive({ cql, segmentRecords: BigInt(segmentRecords) }),
      withArchivedHistory(createSqlArchive(beside, "jobs"), createCassandraJobHistory({ cql }), jobItem),
    ])
    await source.asOwner(async (session) => {
      await insertReleasedRows(session)
      await session.script(LONG)
      await session.script(ENDED)
    })
    archive = await exported(sqlPlace(source), RELEASED_TENANT)
  })
  after(async () => {
    await Promise.all([source?.close(), beside?.close(), cluster?.close()])
  })

  it("goes on after it was interrupted, and has all there was", async () => {
    const until = (kind: Kind, nth: number) =>
      async function* (lines: Lines) {
        let seen = 0
        for await (const line of lines) {
          if (line.includes(`"kind":"${kind}"`) && ++seen === nth) throw new Error("the power is off")
          yield line
        }
      }
    for (const [kind, nth] of [
      ["event", 601],
      ["message", 2],
      ["auditRecord", 3],
    ] as const) {
      await assert.rejects(imported(place, archive, until(kind, nth)), /the power is off/)
    }
    await imported(place, archive)
    assert.deepEqual(itemsIn(await exported(place, RELEASED_TENANT)), itemsIn(archive))
  })

  it("has the jobs that have left the database, too, and each of them once", async () => {
    const history = createCassandraJobHistory({ cql: cluster.session })
    const exits = createPostgresJobExits(beside.database, { retentionMs: 365 * 86_400_000 })
    const taken = await exits.take(scope, { stayMs: 0, leaseMs: 1, max: 20 })
    assert.equal(taken.length, 20)
    // On their way: in both.
    await history.append(
      scope,
      taken.map(({ job }) => job),
    )
    while ((await moveEndedJobs(scope, { exits, history }, { stayMs: 0 })) > 0);
    assert.ok((await history.list(scope, { statuses: [], full: false }, { size: 500 })).items.length >= 100)
    assert.deepEqual(itemsIn(await exported(place, RELEASED_TENANT)), itemsIn(archive))
  })

  it("is refused where there is something of the tenant", async () => {
    await assert.rejects(imported(place, archive), /streams, sessions, audit, configs, jobs/)
  })

  it("comes back to a database as it was", async () => {
    const back = await embeddedDatabase()
    try {
      await imported(sqlPlace(back), await exported(place, RELEASED_TENANT))
      assert.deepEqual(itemsIn(await exported(sqlPlace(back), RELEASED_TENANT)), itemsIn(archive))
    } finally {
      await back.close()
    }
  })

  it("is gone on with: streams in their order", async () => {
    const events = createCassandraEventStore(cluster.session, { clock: systemClock, bucketEvents })
    const read = await events.readStream(scope, {
      stream: "long-1",
      backwards: false,
      from: 1n,
      types: [],
      limit: 5,
    })
    assert.equal(read.events[0]?.revision, 701n)
    const draft = {
      eventId: "0190f2a0-0000-7000-8000-000000000001",
      idGiven: true,
      type: "Changed",
      contentType: "",
      correlationId: "",
      causationId: "",
      traceParent: "",
      size: 10,
    }
    const append = (stream: string, revision: bigint) =>
      events.append(scope, { stream, expected: { kind: "revision", revision }, events: [draft] })
    assert.equal((await append("long-1", 1500n)).lastRevision, 1501n)
    assert.equal((await append("order-2", 4n)).lastRevision, 5n)
    await assert.rejects(append("gone-1", 2n), { reason: "STREAM_DELETED" })
    // An event that was moved is found by its id.
    const moved = read.events[1]
    const repeated = await events.append(scope, {
      stream: "long-1",
      expected: { kind: "any" },
      events: [{ ...draft, eventId: moved?.eventId ?? "" }],
    })
    assert.equal(repeated.repeated, true)
    assert.equal((await events.findSnapshot(scope, "order-2", "", undefined))?.state, '{"total":2}')
  })

  it("is gone on with: sessions and the audit log", async () => {
    const sessions = createCassandraSessionStore({ cql: cluster.session, clock: systemClock })
    const message = {
      role: "user",
      content: [{ kind: "text", text: "more" }],
      toolCalls: [],
      toolCallId: "",
      name: "",
    } as const
    const appended = await sessions.append(scope, messageBatch("s1", [message], undefined))
    assert.equal(appended.firstSequence, 3n)
    const audit = createCassandraAuditStore({ cql: cluster.session, segmentRecords })
    assert.equal((await verifyAudit(scope, audit, { maxDays: 10 })).firstBreak, undefined)
    const entry = { actor: "a", action: "b", resourceType: "c", outcome: "success" } as const
    await audit.record(scope, [entry, entry])
    const verdict = await verifyAudit(scope, audit, { maxDays: 10 })
    assert.equal(verdict.firstBreak, undefined)
    assert.equal(verdict.recordsChecked, 6n)
    const found = await audit.query(scope, { resourceId: "x" }, { size: 10 })
    assert.equal(found.items.length, 4)
  })

  it("is gone on with: configuration, without another word to the audit log", async () => {
    const audit = createCassandraAuditStore({ cql: cluster.session, segmentRecords })
    const configs = createCassandraConfigStore({ cql: cluster.session, clock: systemClock, audit })
    assert.equal(await configs.repair(scope), 0)
    assert.equal((await configs.get(scope, "limits")).version, 1n)
    await assert.rejects(configs.get(scope, "logo"), { reason: "NOT_FOUND" })
    const value = { kind: "struct", struct: { max: 2 } } as const
    const put = await configs.put(scope, "limits", value, { ifVersion: 1n, description: "" })
    assert.equal(put.sequence, 4n)
    assert.equal(put.version, 2n)
    const verdict = await verifyAudit(scope, audit, { maxDays: 10 })
    assert.equal(verdict.recordsChecked, 7n)
  })
})
