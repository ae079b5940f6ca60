/** Appends that come together are answered as if one had come after the other. Knows the port and the domain, and no engine. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { appendBatch, type NewEvent } from "../../src/domain/event/append-events.ts"
import { decideAppend } from "../../src/domain/event/decide-append.ts"
import type { Append, Appended, ExpectedRevision } from "../../src/domain/event/event-model.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import {
  ANY,
  append,
  type EventHarness,
  event,
  events,
  exactly,
  readAll,
  uuid,
  withRequestId,
} from "./event-support.ts"

/** What an append came to: an answer, or the reason and metadata of a refusal. */
type Came =
  | { readonly first: bigint; readonly last: bigint; readonly repeated: boolean }
  | { readonly reason: string; readonly metadata: unknown }

/** A stream as the rule alone makes it. */
class Model {
  readonly ids: string[] = []
  deleted = false

  append(batch: Append): Came {
    try {
      const decision = decideAppend(batch, {
        head: BigInt(this.ids.length),
        deleted: this.deleted,
        revisionOf: (id) => (this.ids.includes(id) ? BigInt(this.ids.indexOf(id) + 1) : undefined),
      })
      const repeated = decision.kind === "repeated"
      const first = repeated ? decision.first : BigInt(this.ids.length + 1)
      if (!repeated) this.ids.push(...batch.events.map(({ eventId }) => eventId))
      return { first, last: first + BigInt(batch.events.length) - 1n, repeated }
    } catch (error) {
      return refused(error)
    }
  }
}

function refused(error: unknown): Came {
  assert.ok(error instanceof DomainError, String(error))
  return { reason: error.reason, metadata: error.metadata }
}

function came({ firstRevision: first, lastRevision: last, repeated }: Appended): Came {
  return { first, last, repeated }
}

/** Repeatable numbers. */
function generator(seed: number): (below: number) => number {
  let state = seed
  return (below) => {
    state = (state * 48_271) % 2_147_483_647
    return state % below
  }
}

/**
 * Registers the suite. `mixed`: whether calls with a request_id keep their place among those without, which nobody may rely on, but
 * which tells more where it is so.
 */
export function eventTogetherContract(make: () => Promise<EventHarness>, mixed: boolean): void {
  describe("appends that come together", () => {
    let harness: EventHarness
    before(async () => {
      harness = await make()
    })
    const fresh = (): CallScope => systemScope(harness.freshTenant())

    it("come to what they would one after the other, whatever each expects and repeats", async () => {
      const { store } = harness
      const scope = fresh()
      const next = generator(7)
      const models = new Map(Array.from({ length: 6 }, (_, at) => [`s-${at}`, new Model()]))
      await append(store, scope, "s-5", events(2))
      await store.deleteStream(scope, "s-5", undefined)
      const gone = models.get("s-5")
      if (gone !== undefined) gone.deleted = true
      const expectation = (model: Model): ExpectedRevision => {
        const kinds: ExpectedRevision[] = [ANY, ANY, ANY, { kind: "no_stream" }, { kind: "stream_exists" }]
        return kinds[next(8)] ?? exactly(Math.max(0, model.ids.length + next(6) - 2))
      }
      let requests = 0
      for (let round = 0; round < 12; round++) {
        const calls = Array.from({ length: 24 }, () => {
          const stream = `s-${next(6)}`
          const model = models.get(stream) ?? new Model()
          const drafts: NewEvent[] = events(1 + next(3))
          // Of few ids, so that some are there already.
          if (next(3) === 0) drafts[0] = event({ eventId: uuid(next(12)) })
          const batch = appendBatch(stream, expectation(model), drafts)
          const keyed = next(6) === 0 && mixed ? withRequestId(scope, `r-${requests++}`, 1) : scope
          return {
            batch,
            answer: store.append(keyed, batch).then(came, refused),
            wanted: model.append(batch),
          }
        })
        for (const { batch, answer, wanted } of calls) {
          assert.deepEqual(
            await answer,
            wanted,
            `${round}: ${batch.stream} ${JSON.stringify(batch.expected.kind)}`,
          )
        }
      }
      for (const [stream, { ids, deleted }] of models) {
        if (deleted) continue
        const kept = await readAll(store, scope, stream)
        assert.deepEqual(
          kept.map(({ eventId }) => eventId),
          ids,
        )
        assert.deepEqual(
          kept.map(({ revision }) => revision),
          ids.map((_, at) => BigInt(at + 1)),
        )
      }
    })

    it("keep every column of theirs, whatever those of others are", async () => {
      const { store } = harness
      const scope = fresh()
      const full = event({
        type: "full",
        data: { kind: "json", value: { 'quoted " and \\': ["{}", null, "NULL"] } },
        metadata: { a: "," },
        statePatch: { b: null },
        correlationId: "NULL",
        causationId: '"',
        traceParent: "00-1",
        occurredMs: Date.UTC(2020, 1, 1),
      })
      const binary = event({
        data: { kind: "binary", bytes: new Uint8Array([0, 255, 92]) },
        contentType: "a/b",
      })
      const kinds = [[event()], [full, binary], [binary], [event(), full]]
      await Promise.all(kinds.map((drafts, at) => append(store, scope, `s-${at}`, drafts)))
      for (const [at, drafts] of kinds.entries()) {
        const kept = await readAll(store, scope, `s-${at}`)
        assert.equal(kept.length, drafts.length)
        for (const [nth, found] of kept.entries()) {
          const draft = appendBatch("s", ANY, [drafts[nth] ?? event()]).events[0]
          const { type, contentType, metadata, statePatch, correlationId, causationId, traceParent } =
            draft ?? found
          const columns = { type, contentType, metadata, statePatch, correlationId, causationId, traceParent }
          for (const [name, value] of Object.entries(columns)) {
            assert.deepEqual(found[name as keyof typeof columns], value, name)
          }
          assert.deepEqual(
            found.data?.kind === "binary" ? [...found.data.bytes] : found.data,
            draft?.data?.kind === "binary" ? [...draft.data.bytes] : draft?.data,
          )
          assert.equal(found.occurredMs, draft?.occurredMs ?? found.recordedMs)
        }
      }
    })
  })
}
