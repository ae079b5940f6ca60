/** The names of a tenant's streams in byte order, over a few partitions. A name comes before its stream. */
import { createHash } from "node:crypto"
import { compareUtf8 } from "../../domain/kernel/filter/index.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"

/** Partitions per tenant, for ever. */
export const NAME_SHARDS = 16

/** Which names. */
export interface NameRange {
  /** Exclusive. */
  readonly after: string | undefined
  /** Only names that begin so. */
  readonly prefix: string
  readonly limit: number
}

/** See the file's comment. */
export class StreamNames {
  readonly #cluster: Cluster

  constructor(cluster: Cluster) {
    this.#cluster = cluster
  }

  /** Adds a name. */
  add(scope: CallScope, stream: string): Promise<void> {
    return this.#cluster.write(scope, {
      cql: "insert into stream_names (tenant, shard, stream) values (?, ?, ?)",
      values: [scope.tenant, shardOf(stream), stream],
    })
  }

  /** The first names of a range; there may be names without a stream among them. */
  async list(scope: CallScope, { after, prefix, limit }: NameRange): Promise<readonly string[]> {
    // Nothing sorts after the last code point, and no name is longer than 256 bytes.
    const end = prefix + "\u{10ffff}".repeat(64)
    const [sign, from] = after === undefined || compareUtf8(after, prefix) < 0 ? [">=", prefix] : [">", after]
    const shards = await Promise.all(
      Array.from({ length: NAME_SHARDS }, (_, shard) =>
        this.#cluster.read<{ stream: string }>(scope, {
          cql: `select stream from stream_names where tenant = ? and shard = ? and stream ${sign} ? and stream <= ? limit ?`,
          values: [scope.tenant, shard, from, end, limit],
        }),
      ),
    )
    return shards
      .flatMap((rows) => rows.map(({ stream }) => stream))
      .sort(compareUtf8)
      .slice(0, limit)
  }
}

function shardOf(stream: string): number {
  return createHash("sha256").update(stream).digest().readUInt8(0) % NAME_SHARDS
}
