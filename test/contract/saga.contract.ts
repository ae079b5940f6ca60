/** What every store of sagas must do, and what the runner makes of it. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import { DomainError, type Reason } from "../../src/domain/kernel/errors.ts"
import { silentLogger } from "../../src/domain/kernel/logger.ts"
import { type CallScope, systemScope, type TenantId } from "../../src/domain/kernel/scope.ts"
import type { NewSaga } from "../../src/domain/saga/model.ts"
import type { SagaStore } from "../../src/domain/saga/ports.ts"
import { type SagaDefinition, SagaRunner, type StepDefinition } from "../../src/domain/saga/runner.ts"
import { until } from "../support/until.ts"
import { rejects, withRequestId } from "./control-support.ts"

/** What the suite needs of an engine. */
export interface SagaHarness {
  readonly store: SagaStore
  /** A tenant that nobody has used. */
  freshTenant(): TenantId
  readonly clock: { now(): number; advance(ms: number): void }
}

const LEASE_MS = 10_000
let count = 0

/** Registers the suite. */
export function sagaContract(make: () => Promise<SagaHarness>): void {
  describe("saga store", () => storeSuite(make))
  describe("saga runner", () => runnerSuite(make))
}

function storeSuite(make: () => Promise<SagaHarness>): void {
  let harness: SagaHarness
  let scope: CallScope
  before(async () => {
    harness = await make()
    scope = systemScope(harness.freshTenant())
  })
  const draft = (subject: string, tenant = scope.tenant): NewSaga => ({
    id: `saga-${String(++count).padStart(6, "0")}`,
    kind: "test",
    tenant,
    actor: "key:1",
    subject,
    input: { n: 1 },
    steps: [{ name: "a", state: "pending", attempts: 0, result: {} }],
  })

  it("begins once per subject until the saga is over", async () => {
    const first = await harness.store.begin(scope, draft("once"), LEASE_MS)
    assert.equal(first.fence, 1n)
    const second = await harness.store.begin(scope, draft("once"), LEASE_MS)
    assert.equal(second.fence, 0n)
    assert.equal(second.saga.id, first.saga.id)
    await harness.store.save(scope, first.fence, { ...first.saga, state: "done" }, 0)
    const third = await harness.store.begin(scope, draft("once"), LEASE_MS)
    assert.equal(third.fence, 1n)
    assert.notEqual(third.saga.id, first.saga.id)
  })

  it("answers the saga that a repeated request began", async () => {
    const request = withRequestId(scope, "Test/Begin", "again", 1)
    const first = await harness.store.begin(request, draft("repeated"), LEASE_MS)
    await harness.store.save(scope, first.fence, { ...first.saga, state: "done" }, 0)
    const again = await harness.store.begin(request, draft("repeated"), LEASE_MS)
    assert.equal(again.saga.id, first.saga.id)
    assert.equal(again.saga.state, "done")
    assert.equal(again.fence, 0n)
    await rejects(
      harness.store.begin(withRequestId(scope, "Test/Begin", "again", 2), draft("repeated"), LEASE_MS),
      "REQUEST_ID_REUSED",
    )
  })

  it("gives a saga to one worker at a time, and to another one after the lease", async () => {
    const mine = await harness.store.begin(scope, draft("leased"), LEASE_MS)
    const has = async () => {
      const claimed = await harness.store.claim(systemScope(scope.tenant), 10, LEASE_MS)
      return claimed.find(({ saga }) => saga.id === mine.saga.id)
    }
    assert.equal(await has(), undefined)
    harness.clock.advance(LEASE_MS)
    const theirs = await has()
    assert.ok(theirs !== undefined && theirs.fence > mine.fence)
    await rejects(harness.store.save(scope, mine.fence, { ...mine.saga, state: "done" }, 0), "LEASE_LOST")
    await harness.store.save(scope, theirs.fence, { ...theirs.saga, state: "stuck" }, 0)
    assert.equal(await has(), undefined)
    assert.equal((await harness.store.retry(scope, mine.saga.id)).state, "running")
    await rejects(harness.store.retry(scope, mine.saga.id), "FAILED_PRECONDITION")
    // The refused one may have the row locked a moment longer than its caller waits, and claims pass over what is locked.
    await until("it can be had again", async () => (await has()) !== undefined)
  })

  it("shows a tenant its own sagas only, newest first, and sweeps those that are over", async () => {
    const other = systemScope(harness.freshTenant())
    const kept = await harness.store.begin(other, draft("mine", other.tenant), LEASE_MS)
    await rejects(harness.store.get(scope, kept.saga.id), "NOT_FOUND")
    await rejects(harness.store.retry(scope, kept.saga.id), "NOT_FOUND")
    const next = await harness.store.begin(other, draft("more", other.tenant), LEASE_MS)
    const page = await harness.store.list(other, {}, { size: 1 })
    assert.deepEqual(
      page.items.map(({ id }) => id),
      [next.saga.id],
    )
    const rest = await harness.store.list(other, { kind: "test" }, { size: 5, cursor: page.next ?? [] })
    assert.deepEqual(
      rest.items.map(({ id }) => id),
      [kept.saga.id],
    )
    await harness.store.save(other, next.fence, { ...next.saga, state: "compensated" }, 0)
    harness.clock.advance(1_000)
    assert.equal(await harness.store.sweep(other, harness.clock.now(), 10), 1)
    await rejects(harness.store.get(other, next.saga.id), "NOT_FOUND")
    assert.equal((await harness.store.get(other, kept.saga.id)).state, "running")
  })
}

/** Steps that write down what happens to them and fail as they are told. */
class Script {
  readonly log: string[] = []
  readonly faults = new Map<string, Reason[]>()

  step(name: string, partial = false): StepDefinition {
    const play = (what: string) => {
      const reason = this.faults.get(what)?.shift()
      this.log.push(reason === undefined ? what : `${what}!`)
      if (reason !== undefined) throw new DomainError(reason, `${what} was told to fail`)
    }
    return {
      name,
      run: async () => {
        play(name)
        return { made: name }
      },
      undo: async () => play(`-${name}`),
      partial,
    }
  }
}

/** `store` with other methods in places. */
function wrapped(store: SagaStore, changes: Partial<SagaStore>): SagaStore {
  return {
    begin: changes.begin ?? store.begin.bind(store),
    claim: changes.claim ?? store.claim.bind(store),
    save: changes.save ?? store.save.bind(store),
    get: changes.get ?? store.get.bind(store),
    list: store.list.bind(store),
    retry: store.retry.bind(store),
    sweep: store.sweep.bind(store),
  }
}

function runnerSuite(make: () => Promise<SagaHarness>): void {
  let harness: SagaHarness
  let scope: CallScope
  before(async () => {
    harness = await make()
    scope = systemScope(harness.freshTenant())
  })
  const runner = (script: Script, change: Partial<SagaDefinition> = {}, maxFailures = 3) => {
    const steps = [script.step("a"), script.step("b"), script.step("c")]
    const definition = { kind: `k${++count}`, steps, ...change }
    const run = new SagaRunner({ ...harness, logger: silentLogger }, [definition], {
      leaseMs: LEASE_MS,
      maxFailures,
    })
    return { run, start: () => run.start(scope, { kind: definition.kind, subject: "s", input: {} }) }
  }
  const tick = async (run: SagaRunner) => {
    harness.clock.advance(400_000)
    await run.tick(systemScope(scope.tenant))
  }

  it("does the steps in order, each with what the others answered", async () => {
    const script = new Script()
    const saga = await runner(script).start()
    assert.equal(saga.state, "done")
    assert.deepEqual(script.log, ["a", "b", "c"])
    assert.deepEqual(saga.steps[1]?.result, { made: "b" })
  })

  it("takes back what is done when a step is refused, the last first, and says why", async () => {
    const script = new Script()
    script.faults.set("c", ["ALREADY_EXISTS"])
    script.faults.set("-b", ["STORE_UNAVAILABLE"])
    const { run, start } = runner(script)
    const turned = await start()
    assert.equal(turned.state, "compensating")
    assert.deepEqual(script.log, ["a", "b", "c!", "-b!"])
    await tick(run)
    assert.deepEqual(script.log.slice(4), ["-b", "-a"])
    const saga = await harness.store.get(scope, turned.id)
    assert.equal(saga.state, "compensated")
    assert.equal(saga.fault?.reason, "ALREADY_EXISTS")
    const again = new Script()
    again.faults.set("a", ["ALREADY_EXISTS"])
    await rejects(runner(again).start(), "ALREADY_EXISTS")
    assert.deepEqual(again.log, ["a!"])
  })

  it("takes back the refused step, too, where a refusal may leave parts of it", async () => {
    const script = new Script()
    script.faults.set("b", ["LIMIT_EXCEEDED"])
    const steps = [script.step("a"), script.step("b", true), script.step("c")]
    await rejects(runner(script, { steps }).start(), "LIMIT_EXCEEDED")
    assert.deepEqual(script.log, ["a", "b!", "-b", "-a"])
  })

  it("waits for a store that is away and goes on where it was", async () => {
    const script = new Script()
    script.faults.set("b", ["STORE_UNAVAILABLE", "OUTCOME_UNKNOWN"])
    const { run, start } = runner(script)
    const begun = await start()
    assert.equal(begun.state, "running")
    await tick(run)
    await tick(run)
    assert.deepEqual(script.log, ["a", "b!", "b!", "b", "c"])
    assert.equal((await harness.store.get(scope, begun.id)).state, "done")
  })

  it("only goes forwards after its pivot, and is stuck after too many failures until it is retried", async () => {
    const script = new Script()
    script.faults.set("c", ["FAILED_PRECONDITION", "FAILED_PRECONDITION", "FAILED_PRECONDITION"])
    const { run, start } = runner(script, { pivot: "b" })
    const begun = await start()
    for (let at = 0; at < 4; at++) await tick(run)
    const stuck = await harness.store.get(scope, begun.id)
    assert.equal(stuck.state, "stuck")
    assert.equal(stuck.fault?.step, "c")
    await harness.store.retry(scope, begun.id)
    await tick(run)
    assert.equal((await harness.store.get(scope, begun.id)).state, "done")
    assert.deepEqual(script.log, ["a", "b", "c!", "c!", "c!", "c"])
  })

  it("keeps its lease while a step takes longer, and loses it to nobody", async () => {
    const leaseMs = 90
    let renewals = 0
    const store: SagaStore = wrapped(harness.store, {
      save: async (...args) => {
        await harness.store.save(...args)
        renewals++
      },
    })
    let others: number | undefined
    const slow: StepDefinition = {
      name: "slow",
      run: async () => {
        for (let at = 0; at < 3; at++) {
          const before = renewals
          harness.clock.advance(60)
          await until("the lease is renewed", () => renewals > before)
        }
        others = (await harness.store.claim(systemScope(scope.tenant), 10, leaseMs)).length
        return {}
      },
    }
    const kind = `k${++count}`
    const run = new SagaRunner({ ...harness, store, logger: silentLogger }, [{ kind, steps: [slow] }], {
      leaseMs,
    })
    const saga = await run.start(scope, { kind, subject: "slow", input: {} })
    assert.deepEqual([saga.state, others], ["done", 0])
  })

  it("ends a step whose lease somebody else has got all the same", async () => {
    const leaseMs = 90
    let ended: unknown
    const taken: StepDefinition = {
      name: "taken",
      run: async ({ signal }) => {
        harness.clock.advance(leaseMs)
        const claimed = await harness.store.claim(systemScope(scope.tenant), 10, 1e11)
        assert.equal(claimed.length, 1)
        await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }))
        ended = signal.reason
        throw ended
      },
    }
    const kind = `k${++count}`
    const run = new SagaRunner({ ...harness, logger: silentLogger }, [{ kind, steps: [taken] }], { leaseMs })
    await run.start(scope, { kind, subject: "taken", input: {} })
    assert.ok(ended instanceof DomainError && ended.reason === "CANCELLED")
  })

  it("works on all that it has leased side by side, so that no lease runs out unused", async () => {
    const kind = `k${++count}`
    const both = Promise.withResolvers<void>()
    let running = 0
    const meet: StepDefinition = {
      name: "meet",
      run: async () => {
        if (++running === 2) both.resolve()
        await both.promise
        return {}
      },
    }
    const steps = [{ name: "meet", state: "pending", attempts: 0, result: {} }] as const
    for (const subject of ["one", "two"]) {
      const draft = { id: `${kind}-${subject}`, kind, tenant: scope.tenant, actor: "x", subject, input: {} }
      await harness.store.begin(scope, { ...draft, steps }, LEASE_MS)
    }
    const run = new SagaRunner({ ...harness, logger: silentLogger }, [{ kind, steps: [meet] }])
    await tick(run)
    assert.equal(running, 2)
  })

  it("does not let one that takes long keep others waiting", async () => {
    const kind = `k${++count}`
    const finish = Promise.withResolvers<void>()
    const log: string[] = []
    const work: StepDefinition = {
      name: "work",
      run: async (_scope, { saga: { subject } }) => {
        if (subject === "long") await finish.promise
        log.push(subject)
        return {}
      },
    }
    const begin = (subject: string) => {
      const steps = [{ name: "work", state: "pending", attempts: 0, result: {} }] as const
      const draft = { id: `${kind}-${subject}`, kind, tenant: scope.tenant, actor: "x", subject, input: {} }
      return harness.store.begin(scope, { ...draft, steps }, 0)
    }
    const run = new SagaRunner({ ...harness, logger: silentLogger }, [{ kind, steps: [work] }], {
      leaseMs: 1e6,
      patienceMs: 10,
    })
    await begin("long")
    assert.equal(await run.tick(systemScope(scope.tenant)), 1)
    await begin("short")
    assert.equal(await run.tick(systemScope(scope.tenant)), 1)
    await until("the short one is done", () => log.includes("short"))
    finish.resolve()
    await run.settled()
    assert.deepEqual(log, ["short", "long"])
    assert.equal((await harness.store.get(scope, `${kind}-long`)).state, "done")
  })

  it("says where it is when its own store goes away, for what is begun goes on", async () => {
    const script = new Script()
    const away = new DomainError("STORE_UNAVAILABLE", "away")
    const kind = `k${++count}`
    const definition = { kind, steps: [script.step("a")] }
    const store = wrapped(harness.store, {
      save: () => Promise.reject(away),
      get: () => Promise.reject(away),
    })
    const broken = new SagaRunner({ ...harness, store, logger: silentLogger }, [definition])
    const begun = await broken.start(scope, { kind, subject: "s", input: {} })
    assert.equal(begun.state, "running")
    const healthy = new SagaRunner({ ...harness, logger: silentLogger }, [definition])
    await tick(healthy)
    assert.equal((await harness.store.get(scope, begun.id)).state, "done")
    assert.deepEqual(script.log, ["a", "a"])
  })

  it("is finished by another daemon when the one that began it died", async () => {
    const script = new Script()
    const { run } = runner(script, { kind: "orphan" })
    const steps = ["a", "b", "c"].map(
      (name) => ({ name, state: "pending", attempts: 0, result: {} }) as const,
    )
    const draft = {
      id: `orphan-${++count}`,
      kind: "orphan",
      tenant: scope.tenant,
      actor: "x",
      subject: "o",
      input: {},
    }
    await harness.store.begin(scope, { ...draft, steps }, LEASE_MS)
    await tick(run)
    assert.equal((await harness.store.get(scope, draft.id)).state, "done")
  })
}
