/** Runs the Memory suites on collections in Milvus alone, and on collections with copies there. */
import { describe } from "node:test"
import { MIRROR_TOPIC, type MirrorSource, mirrorHandler } from "../../src/domain/memory/mirror.ts"
import type { StorageMode } from "../../src/domain/memory/model.ts"
import type { VectorStore } from "../../src/domain/memory/vector-store.ts"
import { Relay } from "../../src/domain/outbox/relay.ts"
import { createOutboxSignals } from "../../src/domain/outbox/signals.ts"
import { createRoutedMemoryStore } from "../../src/stores/memory/index.ts"
import type { MilvusEngine } from "../../src/stores/milvus/index.ts"
import { createDirectLedger, createMirrorSource } from "../../src/stores/postgres/memory-elsewhere.ts"
import { createMemoryStore } from "../../src/stores/postgres/memory-store.ts"
import { createPostgresOutboxStore } from "../../src/stores/postgres/outbox-store.ts"
import { exceptionsOf } from "../contract/exceptions.ts"
import { memoryContract } from "../contract/memory.contract.ts"
import { memorySearchContract } from "../contract/memory-search.contract.ts"
import { memorySizeContract } from "../contract/memory-size.contract.ts"
import type { MemoryHarness } from "../contract/memory-support.ts"
import { atMilvusEnd, type MilvusServer, testMilvus } from "./milvus.ts"
import { embeddedDatabase, freshTenant } from "./pglite.ts"

const SILENT = { trace() {}, debug() {}, info() {}, warn() {}, error() {}, fatal() {} }

const DIRECT = "Milvus (DIRECT)"

/** A store over PGlite and Milvus, and its parts. */
export interface MilvusHarness extends MemoryHarness {
  readonly vectors: VectorStore
  readonly source: MirrorSource
  /** Brings nothing over until {@link MilvusHarness.resume}. */
  pause(): Promise<void>
  resume(): void
}

/** Puts a store together; collections are of `mode` where nothing else is said. */
export async function milvusHarness(
  engine: MilvusEngine,
  mode: StorageMode,
  clock: MemoryHarness["clock"] = { nowMs: 0, now: () => Date.now() },
): Promise<MilvusHarness> {
  // Its own, for a relay serves every entry that it finds.
  const sql = await embeddedDatabase()
  const { database, capabilities } = sql
  const { vectors } = engine
  const outbox = createOutboxSignals()
  const registry = createMemoryStore({ database, clock, concurrency: capabilities.concurrency, outbox })
  const source = createMirrorSource(database, clock, outbox)
  const ledger = createDirectLedger(database)
  const store = createRoutedMemoryStore({ registry, vectors, ledger, source, clock, standard: mode })
  const topics = [{ topic: MIRROR_TOPIC, handle: mirrorHandler(source, vectors) }]
  const started = () => {
    const relay = new Relay({
      store: createPostgresOutboxStore(database),
      signals: outbox,
      topics,
      logger: SILENT,
    })
    relay.start()
    return relay
  }
  let relay = started()
  let closed: Promise<void> | undefined
  const close = () => {
    closed ??= (async () => {
      await store.close()
      await registry.close()
      await relay.stop()
    })()
    return closed
  }
  atMilvusEnd(async () => {
    await close()
    await sql.close()
  })
  return {
    store,
    clock,
    freshTenant,
    vectors,
    source,
    pause: () => relay.stop(),
    resume: () => {
      relay = started()
    },
    close,
  }
}

/** Registers all suites of the Memory plane on a server; collections are of `mode` where nothing else is said. */
export function milvusSuites(on: MilvusServer, mode: StorageMode): void {
  describe(`${on.name}, ${mode}`, { skip: on.skip, timeout: 600_000 }, () => {
    const harness = async (): Promise<MemoryHarness> => {
      const clock = {
        nowMs: Date.parse("2026-06-01T00:00:00Z"),
        now(): number {
          return this.nowMs
        },
      }
      return milvusHarness(await testMilvus(on, { clock }), mode, clock)
    }
    memoryContract(harness, mode === "DIRECT" ? exceptionsOf(DIRECT, "memory") : {})
    memorySearchContract(harness, mode === "DIRECT" ? exceptionsOf(DIRECT, "memory-search") : {})
    memorySizeContract(harness)
  })
}
