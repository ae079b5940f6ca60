/** How long stores keep what tenants of different classes have. Knows the ports and no engine. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { retireAudit } from "../../src/domain/event/audit-retention.ts"
import { verifyAudit } from "../../src/domain/event/audit-verify.ts"
import type { JobLife } from "../../src/domain/event/job-history.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import { ByTenant } from "../../src/domain/kernel/tenant-classes.ts"
import { type AuditHarness, DAY_MS, entry } from "./audit-support.ts"
import { endedJob, type JobHistoryHarness } from "./job-history.contract.ts"
import { ALL, add, claimOf, type JobHarness, leaseOf } from "./job-support.ts"

const platform = systemScope()

/** Three scopes: of a class by the beginnings of ids, of one by an id, and of none. */
function three(freshTenant: () => TenantId) {
  const [beginning, id, other] = [`begin-${freshTenant()}-`, `id-${freshTenant()}`, freshTenant()]
  const names = [`${beginning}1`, id, other] as TenantId[]
  const [one, two, rest] = names.map((tenant) => systemScope(tenant)) as [CallScope, CallScope, CallScope]
  return { one, two, rest, tenants: [[`${beginning}*`], [id, `${id}-not`]] as const }
}

/** Registers the suite for stores of jobs. */
export function jobClassesContract(make: (retentionMs: ByTenant<number>) => Promise<JobHarness>): void {
  describe("jobs of classes of tenants", () => {
    const harness = async (freshTenant: () => TenantId) => {
      const { one, two, rest, tenants } = three(freshTenant)
      const retention = new ByTenant(30 * DAY_MS, [
        { name: "one", tenants: tenants[0], value: DAY_MS },
        { name: "two", tenants: tenants[1], value: 400 * DAY_MS },
      ])
      return { one, two, rest, scopes: [one, two, rest], retention }
    }

    it("are kept for as long as their class has it, and swept by then", async () => {
      const { freshTenant } = await make(new ByTenant(1))
      const { one, two, rest, scopes, retention } = await harness(freshTenant)
      const { store, clock } = await make(retention)
      const ids = new Map<CallScope, string>()
      for (const scope of scopes) {
        const { job } = await add(store, scope)
        const [claimed] = await store.claim(scope, claimOf())
        const ended = await store.complete(scope, leaseOf(claimed), {})
        assert.equal(ended.expireMs, clock.now() + retention.of(scope.tenant))
        ids.set(scope, job.id)
      }
      const left = async () => {
        const found = await Promise.all(scopes.map((scope) => store.get(scope, ids.get(scope) ?? "")))
        for (const [n, scope] of scopes.entries()) {
          assert.equal(
            (await store.list(scope, ALL, { size: 9 })).items.length,
            found[n] === undefined ? 0 : 1,
          )
        }
        return scopes.filter((_, n) => found[n] !== undefined)
      }
      assert.deepEqual(await left(), [one, two, rest])
      clock.advance(DAY_MS)
      assert.deepEqual(await left(), [two, rest])
      assert.ok((await store.sweep(platform, 1_000)).removed >= 1)
      clock.advance(29 * DAY_MS)
      assert.deepEqual(await left(), [two])
      assert.ok((await store.sweep(platform, 1_000)).removed >= 1)
      clock.advance(-30 * DAY_MS)
      // Gone for good.
      assert.deepEqual(await left(), [two])
    })

    it("are kept so, too, where the sweep of all tenants ends them", async () => {
      const { freshTenant } = await make(new ByTenant(1))
      const { scopes, retention } = await harness(freshTenant)
      const { store, clock } = await make(retention)
      const ids = await Promise.all(
        scopes.map(async (scope) => (await add(store, scope, { maxAttempts: 1, leaseMs: 1_000 })).job.id),
      )
      for (const scope of scopes) assert.equal((await store.claim(scope, claimOf())).length, 1)
      clock.advance(2_000)
      assert.ok((await store.sweep(platform, 1_000)).expired >= 3)
      for (const [n, scope] of scopes.entries()) {
        const job = await store.get(scope, ids[n] ?? "")
        assert.equal(job?.status, "dead")
        assert.equal(job?.expireMs, clock.now() + retention.of(scope.tenant))
      }
    })
  })
}

/** Registers the suite for audit logs. */
export function auditClassesContract(make: () => Promise<AuditHarness>): void {
  describe("audit logs of classes of tenants", () => {
    it("are kept for as long as their class has it, never for less than seven years, and verify", async () => {
      const { store, clock, freshTenant } = await make()
      const { one, two, rest, tenants } = three(freshTenant)
      const now = clock.now()
      const yearsAgo = (years: number) => now - (years * 365.25 + 30) * DAY_MS
      const years = [16, 11, 8, 6, 0]
      for (const scope of [one, two, rest]) {
        for (const ago of years) {
          clock.advance(yearsAgo(ago) - clock.now())
          await store.record(scope, [entry(), entry()])
        }
      }
      clock.advance(now - clock.now())
      const kept = new ByTenant(10, [
        { name: "one", tenants: tenants[0], value: 1 },
        { name: "two", tenants: tenants[1], value: 15 },
      ])
      const retired = async (scope: CallScope) => {
        const { days, firstBreak } = await verifyAudit(scope, store, { maxDays: 9 })
        assert.equal(firstBreak, undefined)
        return days.map((day) => day.retired)
      }
      // A tenant's own scope takes nobody else's.
      assert.equal(await retireAudit(one, store, clock, 1, kept), 1)
      assert.deepEqual(await retired(one), [true, false, false, false, false])
      assert.deepEqual(await retired(two), Array(5).fill(false))
      while ((await retireAudit(platform, store, clock, 2, kept)) > 0);
      assert.deepEqual(await retired(one), [true, true, true, false, false])
      assert.deepEqual(await retired(two), [true, false, false, false, false])
      assert.deepEqual(await retired(rest), [true, true, false, false, false])
      // Back to one for all.
      while ((await retireAudit(platform, store, clock, 2, new ByTenant(7))) > 0);
      assert.deepEqual(await retired(two), [true, true, true, false, false])
      assert.deepEqual(await retired(rest), [true, true, true, false, false])
    })
  })
}

/** The classes for which {@link jobHistoryClassesContract} needs a history to be ready. */
export const HISTORY_CLASSES: readonly JobLife[] = [
  { className: "brief", ms: DAY_MS },
  { className: "long_lived", ms: 800 * DAY_MS },
]

/** Registers the suite for histories of jobs; `make` makes one over the same jobs each time. */
export function jobHistoryClassesContract(
  make: (lives: ByTenant<JobLife>) => Promise<JobHistoryHarness>,
): void {
  const [brief, long] = HISTORY_CLASSES as readonly [JobLife, JobLife]
  const rest: JobLife = { ms: 365 * DAY_MS }
  const all = (life: JobLife) => make(new ByTenant(life))
  const ids = async ({ history }: JobHistoryHarness, scope: CallScope, size = 9): Promise<string> => {
    let found = ""
    for (let cursor: readonly string[] | undefined, more = true; more; more = cursor !== undefined) {
      const page = await history.list(scope, { statuses: [], full: true }, { size, cursor })
      assert.ok(page.items.length <= size)
      found += page.items.map(({ id, queue }) => `${id.slice(-1)}${queue} `).join("")
      cursor = page.next
    }
    return found.trim()
  }

  describe("job history of classes of tenants", () => {
    it("keeps jobs for as long as their class has it", async () => {
      const { freshTenant } = await all(rest)
      const scopes = three(freshTenant)
      const { history, clock } = await make(
        new ByTenant(rest, [
          { name: "brief", tenants: scopes.tenants[0], value: brief },
          { name: "long_lived", tenants: scopes.tenants[1], value: long },
        ]),
      )
      const found = async () => {
        const jobs = await Promise.all(
          [scopes.one, scopes.two, scopes.rest].map((scope) => history.get(scope, "a")),
        )
        return jobs.map((job) => job?.expireMs)
      }
      const now = clock.now()
      for (const scope of [scopes.one, scopes.two, scopes.rest]) {
        await history.append(scope, [endedJob("a", now)])
        await history.append(scope, [endedJob("b", now - 2 * DAY_MS, { expireMs: now + 900 * DAY_MS })])
        await history.append(scope, [endedJob("c", now, { expireMs: now + 60_000 })])
      }
      const expires = [brief, long, rest].map(({ ms }) => now + ms)
      assert.deepEqual(await found(), expires)
      assert.equal((await history.get(scopes.one, "b"))?.expireMs, now + brief.ms)
      assert.equal((await history.get(scopes.one, "c"))?.expireMs, now + 60_000)
      clock.advance(DAY_MS)
      assert.deepEqual(await found(), [undefined, ...expires.slice(1)])
      clock.advance(364 * DAY_MS)
      assert.deepEqual(await found(), [undefined, expires[1], undefined])
      clock.advance(-365 * DAY_MS)
    })

    it("finds what a tenant has from its time in other classes, in one list", async () => {
      const histories = [await all(rest), await all(brief), await all(long)] as const
      const [first] = histories
      const scope = systemScope(first.freshTenant())
      // In turns, over several spans of ids, and some that have many.
      const names = Array.from({ length: 9 }, (_, n) => `01${n % 3}f2a-${n}`).toSorted()
      for (const [n, id] of names.entries()) {
        await histories[n % 3]?.history.append(scope, [
          endedJob(id, first.clock.now(), { queue: `q${n % 3}` }),
        ])
      }
      const expected = names
        .map((id, n) => `${id.slice(-1)}q${n % 3}`)
        .toReversed()
        .join(" ")
      for (const harness of histories) {
        for (const size of [1, 2, 4, 9]) assert.equal(await ids(harness, scope, size), expected)
        for (const id of names) assert.equal((await harness.history.get(scope, id))?.id, id)
      }
      const part = await first.history.list(scope, ALL, { size: 9, cursor: [names[7] ?? ""] }, names[3])
      assert.deepEqual(
        part.items.map(({ id }) => id),
        names.slice(3, 7).toReversed(),
      )
      assert.equal(await ids(first, systemScope(first.freshTenant())), "")
    })

    it("has the last end of a job whichever class it was in, and none when that one is over", async () => {
      const [inRest, inBrief, inLong] = [await all(rest), await all(brief), await all(long)]
      const scope = systemScope(inRest.freshTenant())
      const { clock } = inRest
      const end = (id: string, revision: bigint, queue: string) =>
        endedJob(id, clock.now(), { revision, queue })
      await inLong.history.append(scope, [end("a", 3n, "old"), end("b", 3n, "old"), end("c", 9n, "last")])
      await inBrief.history.append(scope, [end("a", 6n, "last"), end("c", 6n, "old")])
      await inRest.history.append(scope, [end("b", 6n, "last")])
      for (const harness of [inRest, inBrief, inLong]) {
        assert.equal(await ids(harness, scope), "clast blast alast")
        for (const id of ["a", "b", "c"]) assert.equal((await harness.history.get(scope, id))?.queue, "last")
      }
      clock.advance(2 * DAY_MS)
      assert.equal(await ids(inRest, scope), "clast blast")
      assert.equal(await inRest.history.get(scope, "a"), undefined)
      clock.advance(-2 * DAY_MS)
    })
  })
}
