/** The Memory suites on pgvector in PGlite. */
import { after } from "node:test"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { memoryContract } from "../contract/memory.contract.ts"
import { memorySearchContract } from "../contract/memory-search.contract.ts"
import type { MemoryHarness } from "../contract/memory-support.ts"
import { freshTenant, sharedEmbeddedDatabase } from "../engines/pglite.ts"

async function harness(): Promise<MemoryHarness> {
  const { database } = await sharedEmbeddedDatabase()
  const clock = {
    nowMs: Date.parse("2026-06-01T00:00:00Z"),
    now(): number {
      return this.nowMs
    },
  }
  const store = createMemoryStore({ database, clock, concurrency: 1 })
  return { store, clock, freshTenant, close: () => store.close() }
}

memoryContract(harness)
memorySearchContract(harness)

after(async () => (await sharedEmbeddedDatabase()).close())
