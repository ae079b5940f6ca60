/**
 * Changes of records that are mirrored to Milvus, with the first, the second, ... call to a store failing, whoever makes it: the caller's
 * part or the relay that brings the copies to Milvus. The change is made once or not at all, and Milvus ends with what the records say.
 */
import { after, before, describe, it } from "node:test"
import { MemoryService, StorageMode } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { milvusLite } from "../engines/milvus.ts"
import type { Channel } from "../support/grpc-client.ts"
import { until } from "../support/until.ts"
import { vector } from "./callers.ts"
import { FaultyDaemon } from "./nth.ts"
import type { Maker } from "./nth-plays.ts"

const COLLECTION = "mirrored"
const PATIENCE_MS = 90_000
/** The caller's calls and the relay's; the relay makes more of them as long as it runs. */
const MOST = 12

const idsOf = (id: string) => [`${id}-1`, `${id}-2`]

const PLAYS: readonly Maker[] = [
  {
    name: "UpsertRecords",
    on: (channel) => ({
      ...mirrored(channel),
      name: "UpsertRecords",
      call: (id) => upsert(channel(), id, `upsert-${id}`),
      effect: (id) => held(channel(), id),
    }),
  },
  {
    name: "DeleteRecords",
    on: (channel) => ({
      ...mirrored(channel),
      name: "DeleteRecords",
      prepare: async (id) => {
        await upsert(channel(), id, `made-${id}`)
        await settled(channel(), id)
      },
      call: (id) => {
        const selection = { case: "ids" as const, value: { ids: idsOf(id) } }
        const request = { collectionId: COLLECTION, selection, requestId: `delete-${id}` }
        return channel().stub(MemoryService).deleteRecords(request)
      },
      effect: async (id) => {
        const [there, of] = await held(channel(), id)
        return [of - there, of]
      },
    }),
  },
]

describe("the n-th call to a store of mirrored changes fails", {
  skip: milvusLite.skip,
  timeout: 900_000,
}, () => {
  let daemon: FaultyDaemon

  before(async () => {
    daemon = await FaultyDaemon.start({ KEELPLANE_STORES__VECTORS__URL: await milvusLite.url() })
    const collection = { id: COLLECTION, dimension: 3, storageMode: StorageMode.MIRRORED }
    await daemon.channel.stub(MemoryService).createCollection({ collection })
  })
  after(() => daemon?.stop())

  for (const make of PLAYS) {
    for (const kind of ["before", "after"] as const) {
      it(`${make.name}, ${kind} it is made`, async (t) => {
        t.diagnostic(`${await daemon.playAll(make, kind)} calls failed, one in each play`)
      })
    }
  }
})

/** What these plays have in common: they are over when the copies are what the records say. */
function mirrored(channel: () => Channel) {
  return { most: MOST, armedAtRest: true, rest: (id: string) => settled(channel(), id) }
}

function upsert(channel: Channel, play: string, requestId: string) {
  const records = idsOf(play).map((id, n) => ({ id, vector: vector(n + 1), metadata: { play } }))
  return channel.stub(MemoryService).upsertRecords({ collectionId: COLLECTION, records, requestId })
}

/** How many records and copies of records there are. */
async function held(channel: Channel, play: string): Promise<readonly [number, number]> {
  const { records } = await channel
    .stub(MemoryService)
    .getRecords({ collectionId: COLLECTION, ids: idsOf(play) })
  const { copies } = await search(channel, play)
  return [records.length + copies, 4]
}

async function search(channel: Channel, play: string): Promise<{ copies: number; degraded: boolean }> {
  const query = {
    target: { case: "vector" as const, value: vector() },
    filter: `metadata.play = ${JSON.stringify(play)}`,
  }
  const { result } = await channel.stub(MemoryService).search({ collectionId: COLLECTION, query })
  return { copies: result?.hits.length ?? 0, degraded: result?.degraded === true }
}

/** A search that Milvus itself answers has every change that was made before it. */
async function settled(channel: Channel, play: string): Promise<void> {
  await until(
    "Milvus has what the records say",
    async () => !(await search(channel, play).catch(() => ({ degraded: true }))).degraded,
    PATIENCE_MS,
  )
}
