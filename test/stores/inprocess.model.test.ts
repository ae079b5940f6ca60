/** Random sequences of operations, time passing in between, on the engine and on a model that is obviously right. */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import fc from "fast-check"
import type { Operation, OperationResults } from "../../src/domain/cache/operations.ts"
import type { CacheStore } from "../../src/domain/cache/ports.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import { DEFAULT_TENANT } from "../../src/domain/kernel/scope.ts"
import { createInProcessEngines } from "../../src/stores/inprocess/index.ts"
import { SortedSet } from "../../src/stores/inprocess/sorted-set.ts"
import { op, scopeOf, space, text } from "../contract/cache-support.ts"
import { ManualClock } from "../support/manual-clock.ts"
import { ModelCache } from "./inprocess-model.ts"

type Step =
  | { readonly do: "run"; readonly operation: Operation }
  | { readonly do: "atomic"; readonly operations: readonly Operation[]; readonly fail: boolean }
  | { readonly do: "wait"; readonly ms: number }
  | { readonly do: "invalidate"; readonly tag: string }
  | { readonly do: "sweep" }

const scope = scopeOf(DEFAULT_TENANT)
const key = fc.constantFrom("a", "b", "c")
const word = fc.constantFrom("x", "y", "12", "-3", "é")
const words = fc.array(word, { minLength: 1, maxLength: 4 })
const index = fc.integer({ min: -5, max: 5 })
const score = fc.integer({ min: -3, max: 3 })
const end = fc.constantFrom("head" as const, "tail" as const)
const expiration = fc.option(fc.record({ ttlMs: fc.integer({ min: 0, max: 40 }) }), { nil: undefined })

const operation: fc.Arbitrary<Operation> = fc.oneof(
  key.map((key) => op({ kind: "get", key })),
  fc
    .record({
      key,
      word,
      expiration,
      condition: fc.constantFrom("always" as const, "ifAbsent" as const, "ifPresent" as const),
      tags: fc.subarray(["s", "t"]),
    })
    .map(({ word, ...rest }) => op({ kind: "set", ...rest, ...text(word) })),
  key.map((key) => op({ kind: "delete", key })),
  fc
    .record({ key, expiration: expiration.map((given) => given ?? { ttlMs: 20 }) })
    .map((rest) => op({ kind: "expire", ...rest })),
  fc.record({ key, by: index, expiration }).map(({ by, ...rest }) => {
    const bounds = { initial: 0n, minimum: undefined, maximum: undefined }
    return op({ kind: "increment", ...rest, addition: { case: "integer", delta: BigInt(by), ...bounds } })
  }),
  fc.record({ key, words, expiration }).map(({ words, ...rest }) => {
    return op({
      kind: "hashSet",
      ...rest,
      fields: words.map((name, at) => ({ name, value: text(`${name}${at}`) })),
    })
  }),
  key.map((key) => op({ kind: "hashGet", key })),
  fc.record({ key, names: words }).map((rest) => op({ kind: "hashDelete", ...rest })),
  fc
    .record({ key, end, words, expiration, maximumLength: fc.constantFrom(0, 0, 2, 5) })
    .map(({ words, ...rest }) => op({ kind: "listPush", ...rest, values: words.map(text) })),
  fc.record({ key, start: index, stop: index }).map((rest) => op({ kind: "listRange", ...rest })),
  fc
    .record({ key, end, count: fc.integer({ min: 1, max: 3 }) })
    .map((rest) => op({ kind: "listPop", ...rest })),
  fc.record({ key, start: index, stop: index }).map((rest) => op({ kind: "listTrim", ...rest })),
  fc
    .record({
      key,
      members: fc.array(fc.record({ member: word, score }), { minLength: 1, maxLength: 4 }),
      expiration,
    })
    .map((rest) => op({ kind: "sortedSetAdd", ...rest })),
  fc.record({ key, members: words }).map((rest) => op({ kind: "sortedSetRemove", ...rest })),
  fc
    .record({
      key,
      reverse: fc.boolean(),
      offset: fc.integer({ min: 0, max: 2 }),
      limit: fc.integer({ min: 1, max: 4 }),
      by: fc.oneof(
        fc.record({ rank: fc.record({ start: index, stop: index }) }),
        fc.record({
          score: fc.record({
            minimum: score,
            maximum: score,
            minimumExclusive: fc.boolean(),
            maximumExclusive: fc.boolean(),
          }),
        }),
      ),
    })
    .map((rest) => op({ kind: "sortedSetRange", ...rest })),
)

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 12, arbitrary: operation.map((operation) => ({ do: "run" as const, operation })) },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant("atomic" as const),
      operations: fc.array(operation, { minLength: 1, maxLength: 6 }),
      fail: fc.boolean(),
    }),
  },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 30 }).map((ms) => ({ do: "wait" as const, ms })) },
  { weight: 1, arbitrary: fc.constantFrom("s", "t").map((tag) => ({ do: "invalidate" as const, tag })) },
  { weight: 1, arbitrary: fc.constant({ do: "sweep" as const }) },
)

describe("in-process cache against its model", () => {
  it("answers the same to every sequence of operations", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 30, maxLength: 60 }), async (steps) => {
        const clock = new ManualClock()
        const { store } = createInProcessEngines({ clock })
        let model = new ModelCache()
        model.nowMs = clock.now()
        for (const each of steps) model = await take(store, clock, model, each)
      }),
      { numRuns: 500 },
    )
  })

  it("ranks and ranges a large sorted set as a sorted array does", () => {
    const change = fc.record({
      member: fc.integer({ min: 0, max: 300 }),
      score: fc.integer({ min: -20, max: 20 }),
      remove: fc.boolean(),
    })
    fc.assert(
      fc.property(fc.array(change, { minLength: 200, maxLength: 600 }), (changes) => {
        const set = new SortedSet()
        const scores = new Map<string, number>()
        for (const { member, score, remove } of changes) {
          const name = `m${member}`
          if (remove) {
            set.delete(name)
            scores.delete(name)
          } else {
            set.set(name, score)
            scores.set(name, score)
          }
        }
        const sorted = [...scores].sort((a, b) => a[1] - b[1] || (a[0] < b[0] ? -1 : 1))
        const seen: [string, number][] = []
        set.visit(0, set.size - 1, false, (member, score, rank) => {
          assert.equal(rank, seen.length)
          seen.push([member, score])
        })
        assert.deepEqual(seen, sorted)
        for (const [rank, [member]] of sorted.entries()) assert.equal(set.rank(member), rank)
        for (let bound = -21; bound <= 21; bound++) {
          assert.equal(set.countBelow(bound, false), sorted.filter(([, score]) => score < bound).length)
          assert.equal(set.countBelow(bound, true), sorted.filter(([, score]) => score <= bound).length)
        }
        const middle: string[] = []
        set.visit(3, 9, true, (member) => middle.push(member))
        assert.deepEqual(
          middle,
          sorted
            .slice(3, 10)
            .map(([member]) => member)
            .reverse(),
        )
      }),
      { numRuns: 60 },
    )
  })
})

/** Takes one step on both sides; answers the model that goes on. */
async function take(
  store: CacheStore,
  clock: ManualClock,
  model: ModelCache,
  step: Step,
): Promise<ModelCache> {
  switch (step.do) {
    case "run": {
      const [outcome] = await store.execute(scope, [step.operation], false)
      assert.ok(outcome !== undefined)
      const answer = outcome.ok ? simplify(step.operation, outcome.result) : outcome.error.reason
      assert.deepEqual(answer, model.run(step.operation))
      break
    }
    case "atomic":
      return await atomic(store, model, step.operations, step.fail)
    case "wait":
      clock.advance(step.ms)
      model.nowMs = clock.now()
      break
    case "invalidate":
      await store.invalidateTags(scope, space(), [step.tag])
      model.invalidate(step.tag)
      break
    case "sweep":
      await store.sweep(scope, 2)
  }
  const { items } = await store.listKeys(scope, space(), "", { size: 10 })
  assert.deepEqual(
    items.map((item) => item.key),
    model.keys(),
  )
  return model
}

async function atomic(
  store: CacheStore,
  model: ModelCache,
  operations: readonly Operation[],
  fail: boolean,
): Promise<ModelCache> {
  const trial = structuredCopy(model)
  const answers = operations.map((operation) => trial.run(operation))
  const impossible = op({ kind: "delete", key: "a", ifRevision: 1n })
  try {
    const outcomes = await store.execute(scope, fail ? [...operations, impossible] : operations, true)
    assert.ok(!fail && !answers.includes("WRONG_TYPE"))
    assert.deepEqual(
      outcomes.map((outcome, at) => outcome.ok && simplify(operations[at] ?? impossible, outcome.result)),
      answers,
    )
    return trial
  } catch (error) {
    if (!(error instanceof DomainError)) throw error
    assert.ok(fail || answers.includes("WRONG_TYPE"))
    return model
  }
}

function structuredCopy(model: ModelCache): ModelCache {
  const copy = new ModelCache()
  copy.nowMs = model.nowMs
  for (const [key, slot] of model.slots) copy.slots.set(key, structuredClone(slot))
  return copy
}

/** The parts of an answer that the model knows, in its form. */
function simplify(operation: Operation, result: unknown): unknown {
  const value = result as never
  switch (operation.kind) {
    case "get":
      return (value as OperationResults["get"])?.content.value
    case "set":
      return (value as OperationResults["set"]).applied
    case "increment":
      return (value as OperationResults["increment"]).sum.value
    case "expire":
      return (value as OperationResults["expire"]).found
    case "hashSet":
    case "listPush":
    case "listTrim":
    case "sortedSetAdd":
      return (value as { length: number }).length
    case "hashGet":
      return (value as OperationResults["hashGet"]).fields.map(({ name, value }) => [
        name,
        value.content.value,
      ])
    case "hashDelete":
      return (value as OperationResults["hashDelete"]).deleted
    case "listRange":
    case "listPop":
      return (value as OperationResults["listPop"]).values.map(({ content }) => content.value)
    case "sortedSetRange":
      return (value as OperationResults["sortedSetRange"]).members.map(({ member, score, rank }) => [
        member,
        score,
        rank,
      ])
    case "sortedSetRemove":
      return (value as OperationResults["sortedSetRemove"]).removed
    default:
      return result
  }
}
