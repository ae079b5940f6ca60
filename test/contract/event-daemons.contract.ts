/** Several daemons over one event store: nothing is lost, doubled or reordered. Knows the port and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { EventLog } from "../../src/domain/event/event-log.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import {
  append,
  type EventHarness,
  event,
  events,
  exactly,
  readAll,
  readWholeFeed,
  uuid,
  withRequestId,
} from "./event-support.ts"

const HOUR_MS = 3_600_000

/** Registers the suite. */
export function eventDaemonsContract(make: () => Promise<EventHarness>): void {
  describe("event store under several daemons", () => {
    let harness: EventHarness
    before(async () => {
      harness = await make()
    })
    const fresh = (): CallScope => systemScope(harness.freshTenant())

    it("keeps 4 streams under 16 writers in 4 daemons without gaps, duplicates or mismatches", async () => {
      const scope = fresh()
      const daemons = Array.from({ length: 4 }, () => harness.another())
      const acknowledged = new Map<string, string>()
      const writer = async (n: number): Promise<void> => {
        const store = daemons[n % 4] ?? harness.store
        const heads = [0, 0, 0, 0]
        for (let round = 0; round < 15; round++) {
          const at = (n * 7 + round * 3) % 4
          try {
            const answer = await append(
              store,
              scope,
              `s-${at}`,
              events(1 + (round % 3)),
              exactly(heads[at] ?? 0),
            )
            for (const [i, id] of answer.eventIds.entries()) {
              const place = `s-${at}@${answer.firstRevision + BigInt(i)}`
              assert.ok(!acknowledged.has(place), place)
              acknowledged.set(place, id)
            }
            heads[at] = Number(answer.lastRevision)
          } catch (error) {
            assert.ok(error instanceof DomainError && error.reason === "REVISION_MISMATCH", String(error))
            heads[at] = Number(error.metadata.actual)
          }
        }
      }
      await Promise.all(Array.from({ length: 16 }, (_, n) => writer(n)))
      let kept = 0
      for (let at = 0; at < 4; at++) {
        for (const [i, { revision, eventId }] of (await readAll(harness.store, scope, `s-${at}`)).entries()) {
          assert.equal(revision, BigInt(i + 1))
          assert.equal(eventId, acknowledged.get(`s-${at}@${revision}`))
          kept++
        }
      }
      assert.equal(kept, acknowledged.size)
    })

    it("shows a follower each event once and in its stream's order, whoever appended it", async () => {
      const scope = fresh()
      const daemons = Array.from({ length: 4 }, () => harness.another())
      const log = new EventLog(harness.store, { pollMs: [5, 10], heartbeatMs: 20 })
      const writers = Promise.all(
        Array.from({ length: 12 }, async (_, n) => {
          const store = daemons[n % 4] ?? harness.store
          // Groups of several streams make transactions overlap in every order.
          for (let round = 0; round < 20; round++) {
            await Promise.all(
              [0, 1].map((at) => append(store, scope, `s-${(n + round * at) % 5}`, events(1))),
            )
          }
        }),
      )
      const heads = new Map<string, bigint>()
      let seen = 0
      const wanted = { source: { kind: "all" }, types: [], start: { kind: "beginning" } } as const
      for await (const frame of log.follow(scope, wanted, (cursor) => cursor.join())) {
        if (frame.kind !== "event") continue
        const { stream, revision } = frame.event
        assert.equal(revision, (heads.get(stream) ?? 0n) + 1n)
        heads.set(stream, revision)
        if (++seen === 480) break
      }
      await writers
    })

    it("appends a batch once when several daemons are sent it, by its ids and by its request_id", async () => {
      const scope = fresh()
      const daemons = Array.from({ length: 4 }, () => harness.another())
      const byIds = await Promise.all(
        daemons.map((store) =>
          append(
            store,
            scope,
            "ids",
            [1, 2].map((n) => event({ eventId: uuid(n) })),
          ),
        ),
      )
      assert.equal(byIds.filter(({ repeated }) => !repeated).length, 1)
      const byRequest = await Promise.all(
        daemons.map((store) => append(store, withRequestId(scope, "r", 1), "request", events(2))),
      )
      for (const answer of byRequest) assert.deepEqual(answer, byRequest[0])
      assert.equal((await readAll(harness.store, scope, "ids")).length, 2)
      assert.equal((await readAll(harness.store, scope, "request")).length, 2)
    })

    it("loses, doubles and reorders nothing where their clocks are an hour apart", async () => {
      const scope = fresh()
      const { clock } = harness
      const daemons = [-HOUR_MS, 0, HOUR_MS].map((skew) => harness.another({ now: () => clock.now() + skew }))
      const rounds = 8
      await Promise.all(
        daemons.flatMap((store, at) =>
          ["a", "b"].map(async (stream) => {
            for (let round = 0; round < rounds; round++) {
              const call = withRequestId(scope, `${stream} ${at} ${round}`, 1)
              const first = await append(store, call, stream, events(2))
              // Whoever is asked again has the answer, and none of them has forgotten it by his clock.
              const elsewhere = daemons[(at + 1) % daemons.length] ?? store
              assert.deepEqual(await append(elsewhere, call, stream, events(2)), first)
              // One who reads ahead of his time must not lead others past what is still being written.
              await elsewhere.readFeed(scope, { types: [], after: undefined, limit: 10 })
            }
          }),
        ),
      )
      for (const store of daemons) {
        for (const stream of ["a", "b"]) {
          const revisions = (await readAll(store, scope, stream)).map(({ revision }) => Number(revision))
          assert.deepEqual(
            revisions,
            revisions.map((_, at) => at + 1),
          )
          assert.equal(revisions.length, daemons.length * rounds * 2)
        }
        const heads = new Map<string, bigint>()
        for (const { stream, revision } of await readWholeFeed(store, scope)) {
          assert.equal(revision, (heads.get(stream) ?? 0n) + 1n)
          heads.set(stream, revision)
        }
        assert.deepEqual([...heads.values()], [48n, 48n])
      }
    })
  })
}
