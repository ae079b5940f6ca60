/** Vectors by Milvus' SDK, with the daemon's index, in one collection of the server. */
import { ConsistencyLevelEnum, DataType, MilvusClient } from "@zilliz/milvus2-sdk-node"
import { BATCH, DIMENSION, SERVER_RECORDS } from "../cases.ts"
import { vectors } from "../vectors.ts"
import type { OpenBare } from "./bare.ts"

const NAMES = ["bare_bench", "bare_writes"] as const
const POLL_MS = 100

/** See the file's comment. */
export const open: OpenBare = async (url) => {
  const { host: address, username, password } = new URL(url)
  const client = new MilvusClient({ address, username, password, logLevel: "none" })
  await client.connectPromise
  for (const name of NAMES) await make(client, name)
  const stored = vectors(1)
  for (let from = 0; from < SERVER_RECORDS; from += 200) {
    await upsert(client, "bare_bench", from, 200, stored)
  }
  const next = vectors(2)
  const asked = Array.from({ length: 100 }, next)
  const ask = async (data: number[][]) => {
    const answer = await client.search({
      collection_name: "bare_bench",
      anns_field: "embedding",
      data,
      limit: 10,
      output_fields: ["id", "metadata"],
      params: { ef: 200 },
      // The daemon's answers have what was written before.
      consistency_level: ConsistencyLevelEnum.Strong,
    })
    if (answer.status.error_code !== "Success") throw new Error(answer.status.reason)
    return answer.results
  }
  const one = (index: number) => Array.from(asked[index % asked.length] as Float32Array)
  return {
    search: (index) => ask([one(index)]),
    searchMany: (index) => ask(Array.from({ length: BATCH }, (_, each) => one(index + each))),
    upsert: (index) => upsert(client, "bare_writes", index % 500, 1, () => Float32Array.from(one(index))),
    upsertMany: (index) =>
      upsert(client, "bare_writes", (index % 20) * BATCH, BATCH, () => Float32Array.from(one(index))),
  }
}

async function make(client: MilvusClient, name: string): Promise<void> {
  await client.dropCollection({ collection_name: name })
  await client.createCollection({
    collection_name: name,
    consistency_level: "Strong",
    fields: [
      { name: "id", data_type: DataType.VarChar, max_length: 640, is_primary_key: true },
      { name: "metadata", data_type: DataType.JSON },
      { name: "text", data_type: DataType.VarChar, max_length: 65_535 },
      { name: "embedding", data_type: DataType.FloatVector, dim: DIMENSION },
    ],
  })
  await client.createIndex({
    collection_name: name,
    field_name: "embedding",
    index_name: "embedding",
    metric_type: "COSINE",
    index_type: "HNSW",
    params: { M: 24, efConstruction: 256 },
  })
  await client.loadCollection({ collection_name: name })
  for (;;) {
    const { progress } = await client.getLoadingProgress({ collection_name: name })
    if (Number(progress) >= 100) return
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
}

async function upsert(
  client: MilvusClient,
  name: string,
  from: number,
  count: number,
  next: () => Float32Array,
) {
  const data = Array.from({ length: count }, (_, each) => ({
    id: `r${from + each}`,
    metadata: {},
    text: "",
    embedding: Array.from(next()),
  }))
  const answer = await client.upsert({ collection_name: name, data })
  if (answer.status.error_code !== "Success") throw new Error(answer.status.reason)
}
