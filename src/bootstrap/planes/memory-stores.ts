/** The store behind MemoryService: the memory store alone, or together with a vector store. */
import { DIRECT_LEDGER_OPERATIONS } from "../../domain/memory/direct-ledger.ts"
import { MIRROR_SOURCE_OPERATIONS, MIRROR_TOPIC, mirrorHandler } from "../../domain/memory/mirror.ts"
import { MirrorDoubts } from "../../domain/memory/mirror-doubts.ts"
import { MEMORY_STORE_OPERATIONS, type MemoryStore } from "../../domain/memory/ports.ts"
import { MirrorRounds } from "../../domain/memory/reconcile-mirror.ts"
import { VECTOR_STORE_OPERATIONS } from "../../domain/memory/vector-store.ts"
import { createRoutedMemoryStore, REGISTRY_OPERATIONS } from "../../stores/memory/index.ts"
import { createDirectLedger, createMirrorSource } from "../../stores/postgres/memory-elsewhere.ts"
import { createMemoryStore } from "../../stores/postgres/memory-store.ts"
import type { Kit } from "../kit.ts"
import type { Sweeper } from "../sweepers.ts"

/** On one connection exact search stays the better choice for longer. */
const EMBEDDED_INDEX_THRESHOLD = 20_000
/** Collections whose copies are brought over at once. */
const MIRROR_CONCURRENCY = 2
const RECONCILE_MS = 60_000

/** The plane's store and what goes on beside it. */
export interface MemoryStores {
  readonly store: MemoryStore
  readonly sweepers: readonly Sweeper[]
  close(): Promise<void>
}

/** Puts the store together from the engines that there are. */
export function memoryStores(kit: Kit): MemoryStores {
  const { database, capabilities, maintenance } = kit.sql("memory")
  const handle = kit.handle("vectors")
  const outbox = handle?.kind === "vectors" ? kit.outbox("memory") : undefined
  const raw = createMemoryStore({
    database,
    clock: kit.clock,
    concurrency: capabilities.concurrency,
    maintenance,
    outbox: outbox?.signals,
    ...(capabilities.engine === "pglite" ? { autoIndexThreshold: EMBEDDED_INDEX_THRESHOLD } : {}),
  })
  if (handle?.kind !== "vectors" || outbox === undefined) {
    const store = kit.guard("memory", "records", raw, MEMORY_STORE_OPERATIONS)
    return { store, sweepers: [], close: () => raw.close() }
  }
  const registry = kit.guard("memory", "records", raw, REGISTRY_OPERATIONS)
  const vectors = kit.guard("vectors", "vectors", handle.vectors, VECTOR_STORE_OPERATIONS)
  const mirror = createMirrorSource(database, kit.clock, outbox.signals)
  const source = kit.guard("memory", "mirror", mirror, MIRROR_SOURCE_OPERATIONS)
  const ledger = kit.guard("memory", "ledger", createDirectLedger(database), DIRECT_LEDGER_OPERATIONS)
  const doubts = new MirrorDoubts(source, () => performance.now())
  outbox.serve({
    topic: MIRROR_TOPIC,
    handle: mirrorHandler(source, vectors, doubts),
    concurrency: MIRROR_CONCURRENCY,
  })
  const routed = createRoutedMemoryStore({ registry, vectors, ledger, source, clock: kit.clock })
  const rounds = new MirrorRounds({ records: registry, vectors, source })
  return {
    store: routed,
    sweepers: [
      {
        name: "memory-mirror",
        intervalMs: RECONCILE_MS,
        run: async (scope) => {
          const owed = await doubts.resolve(scope)
          return { removed: owed + (await rounds.next(scope.signal)), more: false }
        },
      },
    ],
    close: async () => {
      await routed.close()
      await raw.close()
    },
  }
}
