/** The Memory suites on pgvector, in PGlite and, where a URL names one, on a PostgreSQL server. */
import { after, describe } from "node:test"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { memoryContract } from "../contract/memory.contract.ts"
import { memorySearchContract } from "../contract/memory-search.contract.ts"
import { memorySizeContract } from "../contract/memory-size.contract.ts"
import type { MemoryHarness } from "../contract/memory-support.ts"
import { embeddedDatabase, freshTenant } from "../engines/pglite.ts"
import { postgresUrl, serverDatabase } from "../engines/postgres.ts"

function suites(open: () => Promise<SqlEngine>): void {
  let engine: Promise<SqlEngine> | undefined
  const harness = async (): Promise<MemoryHarness> => {
    engine ??= open()
    const { database, capabilities } = await engine
    const clock = {
      nowMs: Date.parse("2026-06-01T00:00:00Z"),
      now(): number {
        return this.nowMs
      },
    }
    const store = createMemoryStore({ database, clock, concurrency: capabilities.concurrency })
    return { store, clock, freshTenant, close: () => store.close() }
  }
  memoryContract(harness)
  memorySearchContract(harness)
  memorySizeContract(harness)
  after(async () => (await engine)?.close())
}

describe("pgvector on PGlite", () => suites(embeddedDatabase))

const url = postgresUrl
if (url !== undefined) {
  describe("pgvector on a PostgreSQL server", () => suites(() => serverDatabase(url)))
}
