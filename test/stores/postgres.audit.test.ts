import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { verifyAudit } from "../../src/domain/event/audit-verify.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { ByTenant } from "../../src/domain/kernel/tenant-classes.ts"
import { appendAudit } from "../../src/stores/postgres/audit-append.ts"
import { createPostgresAuditStore } from "../../src/stores/postgres/audit-store.ts"
import type { Database } from "../../src/stores/postgres/database.ts"
import { auditContract } from "../contract/audit.contract.ts"
import { auditExportContract } from "../contract/audit-export.contract.ts"
import { type AuditHarness, DAY_MS, entry } from "../contract/audit-support.ts"
import { auditClassesContract } from "../contract/retention.contract.ts"
import { freshTenant } from "../engines/pglite.ts"
import { heldClock, onSqlEngines } from "../engines/sql-suites.ts"

type Make = () => Promise<AuditHarness & { readonly database: Database }>

/** What a person with the owner's password could do: with the triggers off, as the login role. */
async function tamper(database: Database, scope: CallScope, ...statements: string[]): Promise<void> {
  await database.transaction(scope, async (tx) => {
    await tx.query({ text: "set local role none" })
    await tx.query({ text: "alter table audit_records disable trigger audit_immutable" })
    for (const text of statements) await tx.query({ text, values: [scope.tenant] })
    await tx.query({ text: "alter table audit_records enable trigger audit_immutable" })
  })
}

const CASES: {
  readonly name: string
  readonly statements: readonly string[]
  readonly expected: readonly [sequence: bigint, kind: string]
  readonly day: number
}[] = [
  {
    name: "an altered field",
    statements: ["update audit_records set actor = 'mallory' where tenant = $1 and day = $D and seq = 3"],
    expected: [3n, "altered"],
    day: 0,
  },
  {
    name: "an altered detail",
    statements: [`update audit_records set details = '{"a":1}' where tenant = $1 and day = $D and seq = 5`],
    expected: [5n, "altered"],
    day: 1,
  },
  {
    name: "an altered record with a recomputed-looking hash",
    statements: ["update audit_records set hash = sha256('x') where tenant = $1 and day = $D and seq = 2"],
    expected: [2n, "altered"],
    day: 1,
  },
  {
    name: "an altered link",
    statements: [
      "update audit_records set prev_hash = sha256('x') where tenant = $1 and day = $D and seq = 2",
    ],
    expected: [2n, "altered"],
    day: 0,
  },
  {
    name: "a deleted record",
    statements: ["delete from audit_records where tenant = $1 and day = $D and seq = 4"],
    expected: [4n, "missing"],
    day: 0,
  },
  {
    name: "a deleted record with the rest moved up",
    statements: [
      "delete from audit_records where tenant = $1 and day = $D and seq = 2",
      "update audit_records set seq = seq + 100 where tenant = $1 and day = $D and seq > 2",
      "update audit_records set seq = seq - 101 where tenant = $1 and day = $D and seq > 100",
    ],
    expected: [2n, "missing"],
    day: 0,
  },
  {
    name: "a deleted tail",
    statements: ["delete from audit_records where tenant = $1 and day = $D and seq > 3"],
    expected: [4n, "missing"],
    day: 1,
  },
  {
    name: "two records that changed places",
    statements: [
      "update audit_records set seq = 99 where tenant = $1 and day = $D and seq = 2",
      "update audit_records set seq = 2 where tenant = $1 and day = $D and seq = 3",
      "update audit_records set seq = 3 where tenant = $1 and day = $D and seq = 99",
    ],
    expected: [2n, "reordered"],
    day: 0,
  },
  {
    name: "a record put in past the recorder",
    statements: [
      `insert into audit_records select tenant, day, 6, 'forged', time, recorded_at, actor, action, resource_type,
        resource_id, outcome, ip_address, user_agent, correlation_id, details, hash, sha256('x')
        from audit_records where tenant = $1 and day = $D and seq = 5`,
    ],
    expected: [6n, "added"],
    day: 1,
  },
  {
    name: "a whole day that is gone",
    statements: [
      "delete from audit_records where tenant = $1 and day = $D",
      "delete from audit_days where tenant = $1 and day = $D",
    ],
    // Seen at the day after it.
    expected: [0n, "missing"],
    day: 0,
  },
  {
    name: "the newest day that is gone",
    statements: [
      "delete from audit_records where tenant = $1 and day = $D",
      "delete from audit_days where tenant = $1 and day = $D",
    ],
    expected: [0n, "missing"],
    day: 1,
  },
  {
    name: "an altered head",
    statements: ["update audit_days set head = sha256('x') where tenant = $1 and day = $D"],
    expected: [5n, "altered"],
    day: 0,
  },
]

function tamperContract(make: Make): void {
  describe("tampering", () => {
    for (const { name, statements, expected, day } of CASES) {
      it(`finds ${name}`, async () => {
        const { store, clock, database } = await make()
        const scope = systemScope(freshTenant())
        const batch = Array.from({ length: 5 }, (_, i) => entry({ resourceId: `${i}` }))
        const days: string[] = []
        for (let i = 0; i < 2; i++) {
          const [first] = await store.record(scope, batch)
          days.push(first?.day ?? "")
          clock.advance(DAY_MS)
        }
        const before = await verifyAudit(scope, store, { maxDays: 9 })
        assert.deepEqual([before.firstBreak, before.recordsChecked], [undefined, 10n])
        await tamper(
          database,
          scope,
          ...statements.map((text) => text.replaceAll("$D", `'${days[day]}'::date`)),
        )
        const { firstBreak } = await verifyAudit(scope, store, { maxDays: 9 })
        assert.deepEqual([firstBreak?.sequence, firstBreak?.kind], expected)
        const namesNextDay = statements.length === 2 && day === 0
        assert.equal(firstBreak?.day, days[namesNextDay ? 1 : day])
      })
    }
  })
}

function fenceContract(make: Make): void {
  describe("the fences around the audit log", () => {
    it("lets the daemon's role neither change nor delete, and not even the owner by a plain statement", async () => {
      const { store, database } = await make()
      const scope = systemScope(freshTenant())
      await store.record(scope, [entry()])
      const changes = [
        "update audit_records set actor = 'x'",
        "delete from audit_records",
        "truncate audit_records",
      ]
      for (const text of changes) {
        await assert.rejects(database.query(scope, { text }), DomainError)
        const asOwner = database.transaction(scope, async (tx) => {
          await tx.query({ text: "set local role none" })
          await tx.query({ text })
        })
        await assert.rejects(asOwner, (error) => {
          assert.ok(error instanceof DomainError && error.cause instanceof Error)
          assert.match(error.cause.message, /immutable/)
          return true
        })
      }
      assert.equal((await store.query(scope, {}, { size: 9 })).items.length, 1)
    })

    it("records in the transaction of the change, or not at all", async () => {
      const { store, database, clock } = await make()
      const scope = systemScope(freshTenant())
      const failing = database.transaction(scope, async (tx) => {
        await appendAudit(tx, [entry()], clock.now())
        throw new DomainError("FAILED_PRECONDITION", "the change did not work")
      })
      await assert.rejects(failing, DomainError)
      assert.equal((await store.query(scope, {}, { size: 9 })).items.length, 0)
      await database.transaction(scope, (tx) => appendAudit(tx, [entry(), entry()], clock.now()))
      const verdict = await verifyAudit(scope, store, { maxDays: 9 })
      assert.deepEqual([verdict.firstBreak, verdict.recordsChecked], [undefined, 2n])
    })

    it("never retires a day that is younger than seven years, whatever it is told", async () => {
      const { store } = await make()
      const scope = systemScope(freshTenant())
      await store.record(scope, [entry()])
      assert.equal(await store.retire(scope, new ByTenant("9999-01-01"), 100), 0)
      assert.equal((await store.query(scope, {}, { size: 9 })).items.length, 1)
    })
  })
}

onSqlEngines((open) => {
  const make: Make = async () => {
    const clock = heldClock()
    const { database } = await open()
    return { store: createPostgresAuditStore(database, { clock }), freshTenant, clock, database }
  }
  auditContract(make)
  auditExportContract(make)
  auditClassesContract(make)
  tamperContract(make)
  fenceContract(make)
})
