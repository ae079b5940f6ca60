/** The Memory suites on pgvector, in PGlite and on PostgreSQL servers. */
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { memoryContract } from "../contract/memory.contract.ts"
import { memoryIndexContract } from "../contract/memory-index.contract.ts"
import { memorySearchContract } from "../contract/memory-search.contract.ts"
import { memorySizeContract } from "../contract/memory-size.contract.ts"
import type { MemoryHarness } from "../contract/memory-support.ts"
import { freshTenant } from "../engines/pglite.ts"
import { onSqlEngines, sqlEnginesAndPooler } from "../engines/sql-suites.ts"

onSqlEngines(
  (open) => {
    const harness = async (): Promise<MemoryHarness> => {
      const { database, capabilities, maintenance } = await open()
      const clock = {
        nowMs: Date.parse("2026-06-01T00:00:00Z"),
        now(): number {
          return this.nowMs
        },
      }
      const store = createMemoryStore({ database, clock, concurrency: capabilities.concurrency, maintenance })
      return { store, clock, freshTenant, close: () => store.close() }
    }
    memoryContract(harness)
    memorySearchContract(harness)
    memorySizeContract(harness)
    memoryIndexContract(harness)
  },
  await sqlEnginesAndPooler(),
)
