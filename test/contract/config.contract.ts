/** Versioned configuration, over any store. */
import assert from "node:assert/strict"
import { before, describe, it } from "node:test"
import type { ConfigVersion } from "../../src/domain/control/model.ts"
import { createControlSignals } from "../../src/domain/control/signals.ts"
import { type ConfigFrame, type WatchDeps, watchConfig } from "../../src/domain/control/watch-config.ts"
import { DomainError } from "../../src/domain/kernel/errors.ts"
import type { JsonObject } from "../../src/domain/kernel/json.ts"
import { type CallScope, systemScope } from "../../src/domain/kernel/scope.ts"
import { type ControlHarness, drain, rejects, withRequestId } from "./control-support.ts"

/** What the suite needs of the control plane. */
export type ConfigHarness = Pick<ControlHarness, "configs" | "freshTenant" | "clock">

/** Registers the suite. */
export function configContract(make: () => Promise<ConfigHarness>): void {
  describe("configuration", () => versions(make))
  describe("configuration watch", () => watch(make))
}

function struct(value: JsonObject) {
  return { kind: "struct", struct: value } as const
}

const PLAIN = { description: "" }

function versions(make: () => Promise<ConfigHarness>): void {
  let harness: ConfigHarness
  let scope: CallScope
  before(async () => {
    harness = await make()
    scope = systemScope(harness.freshTenant())
  })

  it("numbers versions from 1, and reads any of them by number and by time", async () => {
    const { configs, clock } = harness
    const times: number[] = []
    for (let at = 1; at <= 3; at++) {
      const written = await configs.put(scope, "k", struct({ at }), { description: `no ${at}` })
      assert.equal(written.version, BigInt(at))
      times.push(clock.now())
      clock.advance(1_000)
    }
    assert.deepEqual((await configs.get(scope, "k")).value, struct({ at: 3 }))
    for (const [at, time] of times.entries()) {
      const byVersion = await configs.get(scope, "k", { version: BigInt(at + 1) })
      assert.deepEqual(byVersion.value, struct({ at: at + 1 }))
      assert.deepEqual(await configs.get(scope, "k", { time: time + 999 }), byVersion)
    }
    await rejects(configs.get(scope, "k", { time: (times[0] ?? 0) - 1 }), "NOT_FOUND")
    await rejects(configs.get(scope, "k", { version: 4n }), "NOT_FOUND")
    await rejects(configs.get(scope, "K"), "NOT_FOUND")
  })

  it("keeps values as they are: empty, binary, unicode and U+0000", async () => {
    const value = struct({ "": "", nul: "a\0b", deep: [{ ключ: [null, true, -0.5, 1e300] }], "a.b": {} })
    await harness.configs.put(scope, "odd", value, PLAIN)
    assert.deepEqual((await harness.configs.get(scope, "odd")).value, value)
    for (const bytes of [new Uint8Array(), Uint8Array.from({ length: 256 }, (_, at) => at)]) {
      await harness.configs.put(scope, "bin", { kind: "bytes", bytes, contentType: "x/y" }, PLAIN)
      const read = (await harness.configs.get(scope, "bin")).value
      assert.ok(read?.kind === "bytes")
      assert.deepEqual([...read.bytes], [...bytes])
      assert.equal(read.contentType, "x/y")
    }
  })

  it("goes on from a deletion and copies on rollback", async () => {
    const { configs } = harness
    await configs.put(scope, "life", struct({ v: 1 }), { ...PLAIN, ifVersion: 0n })
    await rejects(configs.put(scope, "life", struct({}), { ...PLAIN, ifVersion: 0n }), "REVISION_MISMATCH")
    const deletion = await configs.delete(scope, "life", { ...PLAIN, ifVersion: 1n })
    assert.deepEqual([deletion.version, deletion.deleted], [2n, true])
    await rejects(configs.get(scope, "life"), "NOT_FOUND")
    await rejects(configs.delete(scope, "life", PLAIN), "NOT_FOUND")
    assert.deepEqual((await configs.get(scope, "life", { version: 1n })).value, struct({ v: 1 }))
    await rejects(configs.rollback(scope, "life", 2n, PLAIN), "FAILED_PRECONDITION")
    await rejects(configs.rollback(scope, "life", 9n, PLAIN), "NOT_FOUND")
    const back = await configs.rollback(scope, "life", 1n, { ...PLAIN, ifVersion: 0n })
    assert.deepEqual([back.version, back.rollbackOf, back.value], [3n, 1n, struct({ v: 1 })])
    const history = await drain((page) => configs.listVersions(scope, "life", false, page), 2)
    assert.deepEqual(
      history.map(({ version, value }) => [version, value]),
      [
        [3n, undefined],
        [2n, undefined],
        [1n, undefined],
      ],
    )
    await rejects(configs.listVersions(scope, "never", true, { size: 1 }), "NOT_FOUND")
  })

  it("never forks: 50 writers that increment one number all leave their mark", async () => {
    const { configs } = harness
    await configs.put(scope, "counter", struct({ n: 0 }), PLAIN)
    let lost = 0
    const increment = async (): Promise<void> => {
      for (;;) {
        const current = await configs.get(scope, "counter")
        const n = current.value?.kind === "struct" ? Number(current.value.struct.n) : Number.NaN
        try {
          await configs.put(scope, "counter", struct({ n: n + 1 }), { ...PLAIN, ifVersion: current.version })
          return
        } catch (error) {
          if (!(error instanceof DomainError) || error.reason !== "REVISION_MISMATCH") throw error
          lost++
        }
      }
    }
    await Promise.all(Array.from({ length: 50 }, increment))
    assert.ok(lost > 0, "nobody raced")
    const history = await drain((page) => configs.listVersions(scope, "counter", true, page), 20)
    assert.deepEqual(
      history.map(({ version }) => version),
      history.map((_, at) => 51n - BigInt(at)),
    )
    assert.deepEqual(
      history.map(({ value }) => value),
      history.map((_, at) => struct({ n: 50 - at })),
    )
  })

  it("lists live values by prefix, page by page", async () => {
    const own = systemScope(harness.freshTenant())
    for (const key of ["app/b", "app/a", "app_", "app/c", "app/ü", "zoo", "App/a"]) {
      await harness.configs.put(own, key, struct({ key }), PLAIN)
    }
    await harness.configs.delete(own, "app/b", PLAIN)
    const keys = await drain((page) => harness.configs.list(own, "app/", true, page), 2)
    assert.deepEqual(
      keys.map(({ key }) => key),
      ["app/a", "app/c", "app/ü"],
    )
    assert.equal((await harness.configs.list(own, "", true, { size: 50 })).items.length, 6)
  })

  it("shows no tenant another's, and gives each its own sequence", async () => {
    const [mine, theirs] = [systemScope(harness.freshTenant()), systemScope(harness.freshTenant())]
    await harness.configs.put(theirs, "k", struct({ theirs: true }), PLAIN)
    await rejects(harness.configs.get(mine, "k"), "NOT_FOUND")
    assert.equal(await harness.configs.lastSequence(mine), 0n)
    const written = await harness.configs.put(mine, "k", struct({ mine: true }), { ...PLAIN, ifVersion: 0n })
    assert.deepEqual([written.version, written.sequence], [1n, 1n])
  })

  it("answers a repeated write as before", async () => {
    const request = withRequestId(scope, "ControlService/PutConfig", "c1", 1)
    const first = await harness.configs.put(request, "again", struct({ n: 1 }), { ...PLAIN, ifVersion: 0n })
    assert.deepEqual(
      await harness.configs.put(request, "again", struct({ n: 1 }), { ...PLAIN, ifVersion: 0n }),
      first,
    )
    assert.equal((await harness.configs.get(scope, "again")).version, 1n)
    const other = withRequestId(scope, "ControlService/PutConfig", "c1", 2)
    await rejects(harness.configs.put(other, "again", struct({}), PLAIN), "REQUEST_ID_REUSED")
  })
}

function watch(make: () => Promise<ConfigHarness>): void {
  let harness: ConfigHarness
  let deps: WatchDeps
  before(async () => {
    harness = await make()
    const { configs, clock } = harness
    // A poll that never comes: what wakes these watches is the signal inside the process.
    deps = { configs, clock, signals: createControlSignals(), pollMs: 3_600_000 }
  })

  const put = async (scope: CallScope, key: string, n: number): Promise<ConfigVersion> => {
    const written = await harness.configs.put(scope, key, struct({ n }), PLAIN)
    deps.signals.configChanged(scope.tenant)
    return written
  }
  const shown = (frame: ConfigFrame): string =>
    frame.kind === "config" ? `${frame.config.key}@${frame.config.version}` : frame.kind
  const take = async (frames: AsyncGenerator<ConfigFrame>, count: number): Promise<ConfigFrame[]> => {
    const taken: ConfigFrame[] = []
    while (taken.length < count) {
      const { value, done } = await frames.next()
      if (done === true) break
      taken.push(value)
    }
    return taken
  }

  it("sends what there is, then what comes, deletions too, and resumes without a gap", async () => {
    const scope = systemScope(harness.freshTenant())
    for (const key of ["a/1", "a/2", "b/1"]) await put(scope, key, 1)
    const frames = watchConfig(deps, scope, { prefix: "a/" }, undefined)
    assert.deepEqual((await take(frames, 3)).map(shown), ["a/1@1", "a/2@1", "synced"])
    await put(scope, "b/1", 2)
    await put(scope, "a/2", 2)
    await harness.configs.delete(scope, "a/1", PLAIN)
    deps.signals.configChanged(scope.tenant)
    const changes = await take(frames, 2)
    assert.deepEqual(changes.map(shown), ["a/2@2", "a/1@2"])
    await frames.return(undefined)
    const resumed = watchConfig(deps, scope, { prefix: "a/" }, changes[0]?.sequence)
    assert.deepEqual((await take(resumed, 2)).map(shown), ["a/1@2", "synced"])
    await resumed.return(undefined)
  })

  it("misses nothing that is written while it reads", async () => {
    const scope = systemScope(harness.freshTenant())
    await put(scope, "k", 1)
    const frames = watchConfig(deps, scope, { key: "k" }, undefined)
    assert.deepEqual((await take(frames, 1)).map(shown), ["k@1"])
    const writes = Promise.all(
      Array.from({ length: 40 }, (_, at) => put(scope, at % 2 === 0 ? "k" : "other", at)),
    )
    const seen = (await take(frames, 21)).map(shown)
    await writes
    assert.deepEqual(seen, ["synced", ...Array.from({ length: 20 }, (_, at) => `k@${at + 2}`)])
    await frames.return(undefined)
  })

  it("ends with the reason, whoever ends it", async () => {
    const tenant = harness.freshTenant()
    const controller = new AbortController()
    const frames = watchConfig(deps, systemScope(tenant, controller.signal), { prefix: "" }, undefined)
    assert.deepEqual((await take(frames, 1)).map(shown), ["synced"])
    const next = frames.next()
    controller.abort(new DomainError("CANCELLED", "gone"))
    await rejects(next, "CANCELLED")
    const drained = new AbortController()
    const others = watchConfig(deps, systemScope(tenant, drained.signal), { prefix: "" }, undefined)
    await take(others, 1)
    const last = others.next()
    drained.abort(new DomainError("DRAINING", "stopping"))
    await rejects(last, "DRAINING")
  })

  it("shows that it lives", async () => {
    const scope = systemScope(harness.freshTenant())
    const frames = watchConfig({ ...deps, pollMs: 1, heartbeatMs: 0 }, scope, { prefix: "" }, undefined)
    assert.deepEqual((await take(frames, 3)).map(shown), ["synced", "heartbeat", "heartbeat"])
    await frames.return(undefined)
  })
}
