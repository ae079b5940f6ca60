/** The vector store: an index beside the memory store, where the configuration names one. */
import { readFile } from "node:fs/promises"
import type { Config } from "../../config/schema.ts"
import { systemScope } from "../../domain/kernel/scope.ts"
import { capabilityTexts, type OpenEngine } from "./engine.ts"

const VERIFY_MS = 5_000

/** Opens the engine of the store `vectors`. The server need not answer yet. */
export async function openVectors(config: Config): Promise<OpenEngine> {
  // Imported here, so that a daemon without vectors never loads the driver.
  const { openMilvus } = await import("../../stores/milvus/index.ts")
  const { url, password_file: file } = config.stores.vectors
  const milvus = openMilvus({
    url: url.reveal(),
    password: file === undefined ? undefined : async () => (await readFile(file, "utf8")).trim(),
  })
  const { engine, ...capabilities } = milvus.vectors.capabilities
  return {
    name: "vectors",
    stores: ["vectors"],
    place: String(config.stores.vectors.url),
    inThread: false,
    handle: { kind: "vectors", vectors: milvus.vectors },
    describe: () => ({
      engine,
      capabilities: { ...capabilityTexts(capabilities), ...capabilityTexts(milvus.features() ?? {}) },
    }),
    ping: (scope) => milvus.ping(scope),
    verify: () => milvus.verify({ ...systemScope(), deadlineMs: Date.now() + VERIFY_MS }),
    eraser: milvus.eraser("vectors"),
    close: () => milvus.close(),
  }
}
