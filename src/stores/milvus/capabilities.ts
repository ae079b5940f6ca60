/** What collections on this engine may have. */
import type { MemoryCapabilities } from "../../domain/memory/ports.ts"

/** See {@link MemoryCapabilities}. */
export const MILVUS_CAPABILITIES: MemoryCapabilities = {
  engine: "milvus",
  metrics: ["COSINE", "L2", "INNER_PRODUCT"],
  quantizations: ["NONE"],
  indexes: ["HNSW", "IVF_FLAT"],
  maxDimension: 16_000,
  maxIndexDimension: () => 16_000,
}
