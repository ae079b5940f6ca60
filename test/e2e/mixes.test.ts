/**
 * One life, every RPC of it, on each usual mix of engines: the answers must be those of the embedded default. Then the daemon is
 * killed and started again, and what was written must be there.
 */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { create, type JsonValue } from "@bufbuild/protobuf"
import { AdminService } from "../../src/gen/keelplane/v1/admin_service_pb.ts"
import { CacheService } from "../../src/gen/keelplane/v1/cache_service_pb.ts"
import { ControlService } from "../../src/gen/keelplane/v1/control_service_pb.ts"
import { EventService } from "../../src/gen/keelplane/v1/event_service_pb.ts"
import { MemoryService, VectorSchema } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { cassandraSkip } from "../engines/cassandra.ts"
import {
  type Environment,
  everySkip,
  onCassandra,
  onEverything,
  onPostgres,
  onRedis,
  sqlSkip,
} from "../engines/mixes.ts"
import { redisSkip } from "../engines/redis.ts"
import { type Daemon, startDaemon, until } from "../support/daemon.ts"
import { outcome } from "./outcome.ts"
import { play } from "./registry.ts"
import { EPILOGUE, SCENARIO, type Seen } from "./scenario.ts"

/** Mixes by name: why they cannot be had, and the environment of a daemon on them. */
const MIXES: readonly (readonly [string, string | false, () => Promise<Environment>])[] = [
  ["PostgreSQL", sqlSkip, onPostgres],
  [
    "PostgreSQL and Redis",
    sqlSkip || redisSkip,
    async () => ({ ...(await onPostgres()), ...(await onRedis()) }),
  ],
  ["the embedded database and Cassandra", cassandraSkip, onCassandra],
  ["PostgreSQL, Cassandra, Milvus and Redis", everySkip, onEverything],
]

async function live(daemon: Daemon): Promise<Map<string, JsonValue>> {
  const channel = daemon.channel()
  const seen: Seen = new Map()
  const answers = new Map<string, JsonValue>()
  try {
    for (const [index, step] of [...SCENARIO, ...EPILOGUE].entries())
      answers.set(`${index} ${step.rpc}`, await outcome(() => play(channel, step, seen)))
  } finally {
    channel.close()
  }
  return answers
}

/**
 * How often progress is told is the engine's affair, how it ends is not; where collections live is the mix itself; and a search that a slow
 * machine answers from the records says so, but finds the same.
 */
function comparable(step: string, answer: JsonValue | undefined): JsonValue | undefined {
  if (step.endsWith("/OptimizeCollection"))
    return (answer as { readonly answer?: readonly JsonValue[] } | undefined)?.answer?.at(-1)
  const text = JSON.stringify(answer ?? null).replaceAll(/"STORAGE_MODE_\w+"/g, '"<mode>"')
  return JSON.parse(text, (name, value: unknown) =>
    name === "degraded" || name === "degradedBy" ? undefined : value,
  ) as JsonValue
}

async function embedded(): Promise<Map<string, JsonValue>> {
  const daemon = await startDaemon()
  try {
    return await live(daemon)
  } finally {
    await daemon.stop()
  }
}

let expected: Promise<Map<string, JsonValue>> | undefined

describe("a life on a mix of engines", { timeout: 600_000 }, () => {
  for (const [name, skip, environment] of MIXES) {
    it(`is that on the embedded ones: ${name}`, { skip }, async () => {
      expected ??= embedded()
      const env = await environment()
      const daemon = await startDaemon({ env, readyTimeoutMs: 120_000 })
      try {
        const answers = await live(daemon)
        for (const [step, answer] of await expected)
          assert.deepEqual(comparable(step, answers.get(step)), comparable(step, answer), step)
      } finally {
        await daemon.stop()
      }
    })

    it(`is there after a crash: ${name}`, { skip }, async () => {
      const env = await environment()
      const daemon = await startDaemon({ env, readyTimeoutMs: 120_000 })
      const channel = daemon.channel()
      await channel.stub(EventService).appendEvents({ stream: "kept", events: [{ type: "written" }] })
      const memory = channel.stub(MemoryService)
      await memory.createCollection({ collection: { id: "kept", dimension: 2 } })
      const vector = create(VectorSchema, { data: { case: "values", value: { values: [1, 0] } } })
      await memory.upsertRecords({ collectionId: "kept", records: [{ id: "one", vector }] })
      channel.close()
      await daemon.end("SIGKILL")
      const again = await startDaemon({ env, dataDir: daemon.dataDir, readyTimeoutMs: 120_000 })
      const back = again.channel()
      try {
        const found = await back
          .stub(MemoryService)
          .search({ collectionId: "kept", query: { target: { case: "vector", value: vector } } })
        assert.deepEqual(
          found.result?.hits.map(({ record }) => record?.id),
          ["one"],
        )
        const streams = await back.stub(EventService).listStreams({})
        assert.deepEqual(
          streams.streams.map(({ stream }) => stream),
          ["kept"],
        )
        const status = await back.stub(AdminService).getStatus({})
        assert.ok(status.engines.every(({ serving }) => serving))
      } finally {
        back.close()
        await again.stop()
        await daemon.stop()
      }
    })
  }
})

describe("the end of a tenant on a mix of engines", { skip: everySkip, timeout: 600_000 }, () => {
  const tenantId = "leaving"
  const headers = { "x-keelplane-tenant": tenantId }

  it("takes what he has from every engine, certifies it, and leaves nothing to one of the same name", async () => {
    const env = await onEverything()
    const daemon = await startDaemon({ env, readyTimeoutMs: 120_000 })
    const channel = daemon.channel()
    const theirs = daemon.channel(headers)
    try {
      const control = channel.stub(ControlService)
      await control.createTenant({ tenant: { tenantId } })
      await theirs.stub(EventService).appendEvents({ stream: "kept", events: [{ type: "written" }] })
      const config = { key: "prompt", value: { case: "structValue", value: { text: "brief" } } } as const
      await theirs.stub(ControlService).putConfig(config)
      const vector = create(VectorSchema, { data: { case: "values", value: { values: [1, 0] } } })
      const memory = theirs.stub(MemoryService)
      await memory.createCollection({ collection: { id: "leaves", dimension: 2 } })
      await memory.upsertRecords({ collectionId: "leaves", records: [{ id: "one", vector }] })
      // A search that says nothing of being degraded has found the copy in the vector store.
      const query = { target: { case: "vector", value: vector } } as const
      let last = ""
      const copied = async () => {
        const { result } = await memory.search({ collectionId: "leaves", query })
        last = `${result?.hits.length} hits, degraded by ${result?.degradedBy}`
        return result?.hits.length === 1 && !result.degraded
      }
      await until(copied, "the copy to be in the vector store", 180_000).catch((error: unknown) => {
        throw new Error(`${String(error)}: ${last}`)
      })
      await theirs.stub(CacheService).set({ key: "k", value: { case: "text", value: "v" } })

      const { engines } = await channel.stub(AdminService).getStatus({})
      await assert.rejects(control.deleteTenant({ tenantId }), /FAILED_PRECONDITION|still holds/)
      const asked = await control.deleteTenant({ tenantId, force: true })
      await until(async () => {
        const { saga } = await control.getSaga({ sagaId: asked.sagaId, platform: true })
        return saga?.certificate !== undefined
      }, "the tenant to be gone")
      const { saga } = await control.getSaga({ sagaId: asked.sagaId, platform: true })
      const certificate = saga?.certificate
      assert.equal(certificate?.remainingCount, 0n)
      const stores = new Set(certificate?.removals.map(({ store }) => store))
      assert.deepEqual([...stores].sort(), engines.map(({ name }) => name).sort())
      const removed = (store: string, what: string) =>
        certificate?.removals.find((each) => each.store === store && each.what === what)?.count ?? 0n
      assert.ok(removed("events", "events") > 0n)
      assert.ok(removed("events", "configs") > 0n)
      assert.ok(removed("vectors", "vectors") > 0n)
      assert.ok(removed("cache", "keys") > 0n)

      await control.createTenant({ tenant: { tenantId } })
      assert.deepEqual((await theirs.stub(EventService).listStreams({})).streams, [])
      assert.deepEqual((await memory.listCollections({})).collections, [])
      assert.equal((await theirs.stub(CacheService).get({ key: "k" })).found, false)
      assert.equal((await theirs.stub(ControlService).putConfig(config)).config?.version, 1n)
    } finally {
      for (const each of [channel, theirs]) each.close()
      await daemon.stop()
    }
  })
})
