/** Runs the Memory suites on collections in Milvus alone, and on collections with copies there. */
import { after, describe } from "node:test"
import { MIRROR_TOPIC, mirrorHandler } from "../../src/domain/memory/mirror.ts"
import type { StorageMode } from "../../src/domain/memory/model.ts"
import { Relay } from "../../src/domain/outbox/relay.ts"
import { createOutboxSignals } from "../../src/domain/outbox/signals.ts"
import { createRoutedMemoryStore } from "../../src/stores/memory/index.ts"
import type { SqlEngine } from "../../src/stores/postgres/index.ts"
import { createDirectLedger, createMirrorSource } from "../../src/stores/postgres/memory-elsewhere.ts"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { createPostgresOutboxStore } from "../../src/stores/postgres/outbox-store.ts"
import { memoryContract } from "../contract/memory.contract.ts"
import { memorySearchContract } from "../contract/memory-search.contract.ts"
import { memorySizeContract } from "../contract/memory-size.contract.ts"
import type { MemoryHarness } from "../contract/memory-support.ts"
import { type MilvusServer, testMilvus } from "./milvus.ts"
import { embeddedDatabase, freshTenant } from "./pglite.ts"

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, fatal() {} }

const OWN_INDEX = "the server builds its indexes by itself and does not tell how far it is"
const NO_EXPECTATIONS = "the server compares nothing while it writes, so expectations are refused"
const DIRECT_RECORDS = {
  "writes under an expectation or not at all": NO_EXPECTATIONS,
  "lets one of two writers of a revision win": NO_EXPECTATIONS,
  "shows nothing whose expiry has passed, swept or not":
    "it writes under an expectation; milvus.direct.test.ts has the rest",
  "refuses what the engine cannot do and what contradicts itself": "the server indexes 16000 dimensions",
}
const DIRECT_SEARCH = {
  "FLAT never has an index, and the background gives one to those that are due": OWN_INDEX,
  ...Object.fromEntries(
    ["AUTO", "HNSW", "IVF_FLAT"].flatMap((kind) =>
      ["COSINE", "INNER_PRODUCT"].map((metric) => [
        `${kind} with ${metric}: an index changes no filtered answer, and new writes are seen`,
        OWN_INDEX,
      ]),
    ),
  ),
}

/** Registers all suites of the Memory plane on a server; collections are of `mode` where nothing else is said. */
export function milvusSuites(on: MilvusServer, mode: StorageMode): void {
  describe(`${on.name}, ${mode}`, { skip: on.skip, timeout: 600_000 }, () => {
    let engine: Promise<SqlEngine> | undefined
    const harness = async (): Promise<MemoryHarness> => {
      engine ??= embeddedDatabase()
      const { database, capabilities } = await engine
      const clock = {
        nowMs: Date.parse("2026-06-01T00:00:00Z"),
        now(): number {
          return this.nowMs
        },
      }
      const { vectors } = await testMilvus(on, { clock })
      const outbox = createOutboxSignals()
      const registry = createMemoryStore({ database, clock, concurrency: capabilities.concurrency, outbox })
      const source = createMirrorSource(database, clock)
      const store = createRoutedMemoryStore({
        registry,
        vectors,
        ledger: createDirectLedger(database),
        source,
        clock,
        standard: mode,
      })
      const relay = new Relay({
        store: createPostgresOutboxStore(database),
        signals: outbox,
        topics: [{ topic: MIRROR_TOPIC, handle: mirrorHandler(source, vectors) }],
        logger: SILENT,
      })
      relay.start()
      const close = async () => {
        await store.close()
        await registry.close()
        await relay.stop()
      }
      return { store, clock, freshTenant, close }
    }
    memoryContract(harness, mode === "DIRECT" ? DIRECT_RECORDS : {})
    memorySearchContract(harness, mode === "DIRECT" ? DIRECT_SEARCH : {})
    memorySizeContract(harness)
    after(async () => (await engine)?.close())
  })
}
