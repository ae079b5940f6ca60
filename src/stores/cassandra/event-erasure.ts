/**
 * The end of a tenant's streams. The name of a stream goes last, and the tenant's feed before any name, so that a run that ends in the
 * middle is finished by the next.
 */
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import { SWEEP_SHARDS } from "./event-sweep.ts"
import { NAME_SHARDS } from "./stream-names.ts"

const AT_ONCE = 32
const SHARDS = Array.from({ length: NAME_SHARDS }, (_, shard) => shard)

/** A row for as long as the tenant has any stream. */
export const STREAM_LIST = `stream_names where tenant = ? and shard in (${SHARDS.join(", ")})`

/** Erases all streams of the scope's tenant; answers how many events went. Nobody may write meanwhile. */
export async function eraseStreams(cql: Cluster, scope: CallScope): Promise<number> {
  let count = 0
  await eraseFeed(cql, scope)
  for (const shard of SHARDS) {
    for await (const names of cql.pages<{ stream: string }>(scope, {
      cql: "select stream from stream_names where tenant = ? and shard = ?",
      values: [scope.tenant, shard],
    })) {
      for (const { stream } of names) {
        count += await eraseStream(cql, scope, stream)
        await cql.write(scope, {
          cql: "delete from stream_names where tenant = ? and shard = ? and stream = ?",
          values: [scope.tenant, shard, stream],
        })
      }
    }
  }
  return count
}

async function eraseStream(cql: Cluster, scope: CallScope, stream: string): Promise<number> {
  const { tenant } = scope
  let count = 0
  for (let bucket = await lastBucket(cql, scope, `s:${stream}`); bucket >= 0n; bucket--) {
    for await (const events of cql.pages<{ event_id: { toString(): string } }>(scope, {
      cql: "select event_id from events where tenant = ? and stream = ? and bucket = ? and kind = 0",
      values: [tenant, stream, bucket],
    })) {
      await eraseIds(cql, scope, stream, events)
      count += events.length
    }
    await cql.write(scope, {
      cql: "delete from events where tenant = ? and stream = ? and bucket = ?",
      values: [tenant, stream, bucket],
    })
  }
  await eraseSnapshots(cql, scope, stream)
  await eraseMark(cql, scope, "swept_streams", "revision", { stream })
  await eraseMark(cql, scope, "log_buckets", "bucket", { log: `s:${stream}` })
  return count
}

/** Which of them their callers have chosen is not known here: those of the daemon's own have no entry. */
async function eraseIds(
  cql: Cluster,
  scope: CallScope,
  stream: string,
  events: readonly { readonly event_id: { toString(): string } }[],
): Promise<void> {
  for (let at = 0; at < events.length; at += AT_ONCE) {
    await Promise.all(
      events.slice(at, at + AT_ONCE).map(({ event_id }) =>
        cql.write(scope, {
          cql: "delete from event_ids where tenant = ? and stream = ? and event_id = ?",
          values: [scope.tenant, stream, event_id.toString()],
        }),
      ),
    )
  }
}

async function eraseSnapshots(cql: Cluster, scope: CallScope, stream: string): Promise<void> {
  const values = [scope.tenant, stream]
  const projections = await cql.read<{ projection: string }>(scope, {
    cql: "select projection from snapshot_projections where tenant = ? and stream = ?",
    values,
  })
  for (const { projection } of projections) {
    await cql.write(scope, {
      cql: "delete from snapshots where tenant = ? and stream = ? and projection = ?",
      values: [...values, projection],
    })
  }
  await cql.write(scope, {
    cql: "delete from snapshot_projections where tenant = ? and stream = ?",
    values,
  })
}

async function eraseFeed(cql: Cluster, scope: CallScope): Promise<void> {
  const { tenant } = scope
  for (let bucket = await lastBucket(cql, scope, "feed"); bucket >= 0n; bucket--) {
    await cql.write(scope, {
      cql: "delete from feed where tenant = ? and bucket = ?",
      values: [tenant, bucket],
    })
  }
  await eraseMark(cql, scope, "feed_settled", "position", {})
  await eraseMark(cql, scope, "log_buckets", "bucket", { log: "feed" })
  for (let shard = 0; shard < SWEEP_SHARDS; shard++) {
    await cql.write(scope, {
      cql: "delete from event_sweeps where shard = ? and tenant = ?",
      values: [shard, tenant],
    })
  }
}

/**
 * Deletes a row whose timestamp is no time but a rank, as of that rank: the marks of a tenant of the same name that begins anew rank
 * below this moment.
 */
async function eraseMark(
  cql: Cluster,
  scope: CallScope,
  table: string,
  column: string,
  rest: Readonly<Record<string, string>>,
): Promise<void> {
  const where = ["tenant", ...Object.keys(rest)].map((name) => `${name} = ?`).join(" and ")
  const values = [scope.tenant, ...Object.values(rest)]
  const [row] = await cql.read<{ rank: bigint | null }>(scope, {
    cql: `select writetime(${column}) as rank from ${table} where ${where}`,
    values,
  })
  if (row?.rank == null) return
  await cql.write(scope, {
    cql: `delete from ${table} using timestamp ? where ${where}`,
    values: [row.rank, ...values],
  })
}

async function lastBucket(cql: Cluster, scope: CallScope, log: string): Promise<bigint> {
  const [row] = await cql.read<{ bucket: bigint }>(scope, {
    cql: "select bucket from log_buckets where tenant = ? and log = ?",
    values: [scope.tenant, log],
  })
  return row?.bucket ?? 0n
}
