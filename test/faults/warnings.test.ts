/**
 * Store after store away again and again, in one process and more often than an emitter takes listeners without a warning: what the daemon
 * and the drivers register for one outage must be gone with it. The runtime says on stderr where it is not.
 */
import assert from "node:assert/strict"
import { describe, it } from "node:test"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { cassandraHosts, freshKeyspace, ringSkip } from "../engines/cassandra.ts"
import { ownServerSkip as sqlSkip, startPostgres } from "../engines/postgres.ts"
import { ownServerSkip as redisSkip, startRedis } from "../engines/redis.ts"
import { startDaemon } from "../support/daemon.ts"
import { CallError, type Channel } from "../support/grpc-client.ts"
import { TcpProxy } from "../support/proxy.ts"
import { until } from "../support/until.ts"
import { COLLECTION } from "./callers.ts"
import { CACHE, CONTROL, EVENTS, RECORDS, type TimedCalls } from "./lateness-calls.ts"

const OUTAGES = 12
const AWAY_MS = 400
/** Of calls while the store is away, and of those that look for whether it is back. */
const SHORT_MS = 300
const LONG_MS = 3_000
const PATIENCE_MS = 60_000

interface Away {
  readonly name: string
  readonly skip: string | false
  readonly stores: readonly string[]
  readonly calls: TimedCalls
  /** The server's URL with another port, and the port it has. */
  start(): Promise<{ readonly port: number; url(port: number): string }>
}

const AWAY: readonly Away[] = [
  {
    name: "PostgreSQL",
    skip: sqlSkip,
    stores: ["MEMORY", "CONTROL"],
    calls: { ...RECORDS, ...CONTROL },
    start: async () => {
      const { port } = await startPostgres()
      return { port, url: (on) => `postgres://postgres@127.0.0.1:${on}/postgres` }
    },
  },
  {
    name: "Cassandra",
    skip: ringSkip,
    stores: ["EVENTS"],
    calls: EVENTS,
    start: async () => {
      const port = Number(new URL((await cassandraHosts()).replace(/^\w+:/, "http:")).port)
      const keyspace = freshKeyspace()
      return { port, url: (on) => `cassandra://127.0.0.1:${on}/${keyspace}?replication=1` }
    },
  },
  {
    name: "Redis",
    skip: redisSkip,
    stores: ["CACHE"],
    calls: CACHE,
    start: async () => {
      const { url } = await startRedis()
      return { port: Number(new URL(url).port), url: (on) => `redis://127.0.0.1:${on}` }
    },
  },
]

for (const { name, skip, stores, calls, start } of AWAY) {
  describe(`${name} is away ${OUTAGES} times`, { skip, timeout: 400_000 }, () => {
    it("and nothing adds up that the runtime warns of", async (t) => {
      const server = await start()
      const proxy = await TcpProxy.to(server.port)
      t.after(() => proxy.close())
      // A breaker would keep most calls from the drivers.
      const env = Object.fromEntries(
        stores.flatMap((store) => [
          [`KEELPLANE_STORES__${store}__URL`, server.url(proxy.port)],
          [`KEELPLANE_STORES__${store}__BREAKER__ENABLED`, "false"],
        ]),
      )
      const daemon = await startDaemon({ env, readyTimeoutMs: 180_000 })
      t.after(() => daemon.stop())
      const channel = daemon.channel()
      t.after(() => channel.close())
      await channel.stub(MemoryService).createCollection({ collection: { id: COLLECTION, dimension: 3 } })
      for (let outage = 0; outage < OUTAGES; outage++) {
        await goAway(proxy, outage, () => callAll(channel, calls, SHORT_MS))
        await until("calls succeed again", () => callAll(channel, calls, LONG_MS), PATIENCE_MS)
      }
      assert.doesNotMatch(daemon.output(), /Warning/)
    })
  })
}

/** Cut off, silent or gone, in turns, while calls come in. */
async function goAway(proxy: TcpProxy, outage: number, work: () => Promise<boolean>): Promise<void> {
  const kind = outage % 3
  if (kind === 2) await proxy.refuse()
  else proxy.hold()
  const until = performance.now() + AWAY_MS * (1 + (outage % 2))
  while (performance.now() < until) await work()
  if (kind === 2) await proxy.accept()
  else proxy.release()
  if (kind === 0) proxy.cut()
}

let turn = 0

/** Whether all of them, several at a time, were answered as by stores that are there. */
async function callAll(channel: Channel, calls: TimedCalls, timeoutMs: number): Promise<boolean> {
  const ends = await Promise.all(
    [1, 2, 3].flatMap(() =>
      Object.values(calls).map((call) =>
        call(channel, `call-${turn++}`, { timeoutMs }).then(
          () => true,
          (error: unknown) => {
            assert.ok(error instanceof CallError, String(error))
            return error.reason === "NOT_FOUND"
          },
        ),
      ),
    ),
  )
  return ends.every((each) => each)
}
