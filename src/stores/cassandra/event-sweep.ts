/**
 * Gives back the space of hidden events. They are deleted by plain ranges of rows that nothing writes again; the stream itself,
 * its static columns, is not touched.
 */
import { createHash } from "node:crypto"
import { type CallScope, PLATFORM_TENANT, type TenantId } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import type { Snapshots } from "./event-snapshots.ts"
import type { Tips } from "./event-tip.ts"

/** Partitions of marks, for ever. */
export const SWEEP_SHARDS = 8
/** Marks that one look at a partition takes. */
const MARKS = 200

interface MarkRow {
  readonly tenant: TenantId
  readonly stream: string
  readonly mark: { toString(): string }
}

/** Notes that a stream is about to have something to reclaim. */
export function markSweep(cluster: Cluster, scope: CallScope, stream: string, mark: string): Promise<void> {
  return cluster.write(scope, {
    cql: "insert into event_sweeps (shard, tenant, stream, mark) values (?, ?, ?, ?)",
    values: [shardOf(scope.tenant, stream), scope.tenant, stream, mark],
  })
}

function shardOf(tenant: string, stream: string): number {
  return createHash("sha256").update(`${tenant}/${stream}`).digest().readUInt8(0) % SWEEP_SHARDS
}

/** What reclaiming needs. */
export interface SweepDeps {
  readonly cluster: Cluster
  readonly tips: Tips
  readonly snapshots: Snapshots
}

/** See EventStore.sweep. Revisions have no gaps, so a range of them is a number of events. */
export async function sweepStreams(deps: SweepDeps, scope: CallScope, limit: number): Promise<number> {
  let swept = 0
  for (let shard = 0; shard < SWEEP_SHARDS && swept < limit; shard++) {
    const rows = await deps.cluster.read<MarkRow>(scope, {
      cql: "select tenant, stream, mark from event_sweeps where shard = ? limit ?",
      values: [shard, MARKS],
    })
    const mine = rows.filter(({ tenant }) => scope.tenant === PLATFORM_TENANT || scope.tenant === tenant)
    for (const marks of Map.groupBy(mine, ({ tenant, stream }) => `${tenant}/${stream}`).values()) {
      if (swept >= limit) break
      swept += await sweepOne(deps, scope, shard, marks, BigInt(limit - swept))
    }
  }
  return swept
}

async function sweepOne(
  { cluster, tips, snapshots }: SweepDeps,
  platform: CallScope,
  shard: number,
  marks: readonly MarkRow[],
  limit: bigint,
): Promise<number> {
  const [mark] = marks
  if (mark === undefined) return 0
  const { tenant, stream } = mark
  const scope: CallScope = { ...platform, tenant }
  const tip = await tips.load(scope, stream)
  const [row] = await cluster.read<{ revision: bigint }>(scope, {
    cql: "select revision from swept_streams where tenant = ? and stream = ?",
    values: [tenant, stream],
  })
  const reached = row?.revision ?? 1n
  // A tombstone counts as one event at least: its snapshots go with it.
  const from = tip.deletedMs !== undefined && reached > tip.head ? tip.head : reached
  let to = from + limit
  if (to > tip.first) to = tip.first
  if (to > from) {
    for (const bucket of tips.buckets.of(from, to - 1n)) {
      await cluster.write(scope, {
        cql: `delete from events where tenant = ? and stream = ? and bucket = ? and kind = 0 and revision >= ? and revision < ?`,
        values: [tenant, stream, bucket, from, to],
      })
    }
    await cluster.write(scope, {
      cql: "insert into swept_streams (tenant, stream, revision) values (?, ?, ?) using timestamp ?",
      values: [tenant, stream, to, to],
    })
  }
  if (to >= tip.first) {
    await snapshots.sweep(scope, stream, tip.deletedMs === undefined ? tip.first - 1n : tip.first + 1n)
    // Marks that came since we looked stay.
    for (const each of marks) {
      await cluster.write(scope, {
        cql: "delete from event_sweeps where shard = ? and tenant = ? and stream = ? and mark = ?",
        values: [shard, tenant, stream, each.mark.toString()],
      })
    }
  }
  return Number(to > from ? to - from : 0n)
}
