/**
 * Every RPC that asks stores several times, with the first, the second, ... of these calls failing, before it is made or after: the
 * change is made once or not at all, and a repetition under the same request_id ends in one effect.
 */
import { after, before, describe, it } from "node:test"
import { MemoryService } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import { FaultyDaemon } from "./nth.ts"
import { FLOWS } from "./nth-flows.ts"
import { PLAYS } from "./nth-plays.ts"

describe("the n-th call to a store fails", { timeout: 900_000 }, () => {
  let daemon: FaultyDaemon

  before(async () => {
    daemon = await FaultyDaemon.start()
    await daemon.channel.stub(MemoryService).createCollection({ collection: { id: "nth", dimension: 3 } })
  })
  after(() => daemon?.stop())

  for (const make of [...PLAYS, ...FLOWS]) {
    for (const kind of ["before", "after"] as const) {
      it(`${make.name}, ${kind} it is made`, async (t) => {
        t.diagnostic(`${await daemon.playAll(make, kind)} calls failed, one in each play`)
      })
    }
  }
})
