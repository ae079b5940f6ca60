/**
 * Appenders on the embedded event store itself, without gRPC: what group commit gives when nothing else takes the processor.
 * Through gRPC on a small machine, the load generator, the transport and the database share the cores, and the ratio is lower.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { appendBatch } from "../src/domain/event/append-events.ts"
import { systemClock } from "../src/domain/kernel/clock.ts"
import { DEFAULT_TENANT, systemScope } from "../src/domain/kernel/scope.ts"
import { createPostgresEventStore } from "../src/stores/postgres/event-store.ts"
import { openEmbedded } from "../src/stores/postgres/index.ts"

const EVENT = {
  eventId: "",
  type: "bench.event",
  data: { kind: "json" as const, value: { text: "x".repeat(100) } },
  contentType: "",
  correlationId: "",
  causationId: "",
  traceParent: "",
}

/** Appends per second of one writer and of many, each on a stream of its own, each waiting for its answer; by round. */
export async function appenders(
  writers: number,
  rounds: number,
  durationMs: number,
): Promise<readonly { readonly alone: number; readonly together: number }[]> {
  const dataDir = mkdtempSync(join(tmpdir(), "keelplane-bench-"))
  const engine = await openEmbedded({ dataDir })
  try {
    await engine.migrate({})
    const store = createPostgresEventStore(engine.database, { clock: systemClock, concurrency: 1 })
    const scope = systemScope(DEFAULT_TENANT)
    const measure = async (count: number): Promise<number> => {
      const started = performance.now()
      const end = started + durationMs
      let appended = 0
      await Promise.all(
        Array.from({ length: count }, async (_, writer) => {
          while (performance.now() < end) {
            await store.append(scope, appendBatch(`writer-${count}-${writer}`, { kind: "any" }, [EVENT]))
            appended++
          }
        }),
      )
      return appended / ((performance.now() - started) / 1000)
    }
    await measure(writers)
    const results: { alone: number; together: number }[] = []
    for (let round = 0; round < rounds; round++) {
      results.push({ alone: await measure(1), together: await measure(writers) })
    }
    return results
  } finally {
    await engine.close()
    rmSync(dataDir, { recursive: true, force: true })
  }
}
