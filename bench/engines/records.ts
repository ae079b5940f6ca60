/** Vectors, the same on every engine that searches them. */
import { IndexState, MemoryService, StorageMode } from "../../src/gen/keelplane/v1/memory_service_pb.ts"
import type { Channel } from "../../test/support/grpc-client.ts"
import { cases, prepareMemory, RECORDS, SERVER_RECORDS } from "../cases.ts"
import { BATCHED, UNARY, type Work } from "./engine.ts"

function work(name: string, bare: string, rest: Pick<Work, "inFlight" | "targets">): Work {
  const found = cases().find((each) => each.name === name || each.name.startsWith(`${name} of `))
  if (found === undefined) throw new RangeError(`no case ${name}`)
  return { ...found, name: found.name.replace(`of ${RECORDS}`, `of ${SERVER_RECORDS}`), bare, ...rest }
}

/** Searches and writes. */
export function vectorWorks(searchMany: boolean): readonly Work[] {
  const both = [64, 1]
  return [
    work("MemoryService.Search", "search", {
      inFlight: both,
      targets: [...UNARY, { what: "p50", inFlight: 1 }],
    }),
    ...(searchMany
      ? [
          work("MemoryService.BatchSearch x 32", "searchMany", {
            inFlight: [16, 1],
            targets: [{ what: "batch", inFlight: 16 } as const],
          }),
        ]
      : []),
    work("MemoryService.UpsertRecords", "upsert", { inFlight: both, targets: UNARY }),
    work("MemoryService.UpsertRecords x 32", "upsertMany", { inFlight: both, targets: BATCHED }),
  ]
}

/** Makes the collections where the engine has them: with a graph, whose search is what a driver's search is compared with. */
export async function prepareVectors(channel: Channel, mode: "local" | "direct"): Promise<void> {
  if (mode === "direct") {
    await prepareMemory(channel, { storageMode: StorageMode.DIRECT }, SERVER_RECORDS)
    return
  }
  await prepareMemory(
    channel,
    { storageMode: StorageMode.LOCAL, index: { case: "hnsw", value: { m: 16, efConstruction: 64 } } },
    SERVER_RECORDS,
  )
  // The background is at it, too; what is measured must not be its work.
  const steps = channel
    .stub(MemoryService)
    .optimizeCollection({ collectionId: "bench" }, { timeoutMs: 300_000 })
  let state: IndexState | undefined
  for await (const step of steps) state = step.indexState
  if (state !== IndexState.READY) throw new Error(`the collection's index is ${state}`)
}
