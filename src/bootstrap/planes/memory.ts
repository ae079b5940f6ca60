import type { Config } from "../../config/schema.ts"
import { uuid7 } from "../../domain/kernel/uuid7.ts"
import { maintainIndexes } from "../../domain/memory/optimize-collection.ts"
import type { Embedder, Embedders, MemoryStore } from "../../domain/memory/ports.ts"
import { createMemoryService } from "../../services/memory-service.ts"
import { createLexicalEmbedder, createOpenAiEmbedder } from "../../stores/embedders/index.ts"
import type { Kit, Plane } from "../kit.ts"
import { memoryStores } from "./memory-stores.ts"

const SWEEP_RECORDS = 1_000
const INDEX_BUDGET_MS = 10_000

/** The memory plane, and what flows over several planes use of it. */
export interface MemoryPlane extends Plane {
  readonly store: MemoryStore
  readonly embedders: Embedders
}

/** MemoryService over the memory store, and the vector store where there is one. */
export async function memoryPlane(kit: Kit): Promise<MemoryPlane> {
  const { store, sweepers, close } = memoryStores(kit)
  const deps = {
    store,
    embedders: embedders(kit.config),
    pages: kit.pages,
    clock: kit.clock,
    newId: () => uuid7(),
  }
  return {
    store,
    embedders: deps.embedders,
    services: [createMemoryService(deps)],
    needs: ["memory"],
    sweepers: [
      {
        name: "memory-records",
        intervalMs: 60_000,
        run: async (scope) => {
          const removed = await store.sweep(scope, SWEEP_RECORDS)
          return { removed, more: removed >= SWEEP_RECORDS }
        },
      },
      {
        name: "memory-indexes",
        intervalMs: 5_000,
        run: async ({ signal }) => {
          await maintainIndexes(store, { budgetMs: INDEX_BUDGET_MS, signal })
          return { removed: 0, more: false }
        },
      },
      ...sweepers,
    ],
    close,
  }
}

function embedders(config: Config): Embedders {
  const lexical = createLexicalEmbedder()
  const all = new Map<string, Embedder>([[lexical.name, lexical]])
  for (const [name, settings] of Object.entries(config.memory.embedders)) {
    all.set(
      name,
      createOpenAiEmbedder({
        name,
        url: settings.url,
        model: settings.model,
        dimension: settings.dimension,
        sendDimensions: settings.send_dimensions,
        keyFile: settings.api_key_file,
        batchSize: settings.batch,
        timeoutMs: settings.timeout_ms,
        retries: settings.retries,
      }),
    )
  }
  return all
}
