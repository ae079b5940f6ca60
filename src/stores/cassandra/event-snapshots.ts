/** States kept at revisions. */
import { streamDeleted } from "../../domain/event/decide-append.ts"
import type { Snapshot } from "../../domain/event/event-model.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import type { Tips } from "./event-tip.ts"

interface SnapshotRow {
  readonly stream: string
  readonly projection: string
  readonly revision: bigint
  readonly state: string
  readonly created_ms: bigint
}

/** Keeps and finds them. */
export class Snapshots {
  readonly #cluster: Cluster
  readonly #tips: Tips

  constructor(cluster: Cluster, tips: Tips) {
    this.#cluster = cluster
    this.#tips = tips
  }

  /** Replaces the one of the same projection and revision. */
  async save(scope: CallScope, { stream, projection, revision, state, createdMs }: Snapshot): Promise<void> {
    await this.#cluster.write(scope, {
      cql: "insert into snapshot_projections (tenant, stream, projection) values (?, ?, ?)",
      values: [scope.tenant, stream, projection],
    })
    await this.#cluster.write(scope, {
      cql: "insert into snapshots (tenant, stream, projection, revision, state, created_ms) values (?, ?, ?, ?, ?, ?)",
      values: [scope.tenant, stream, projection, revision, state, BigInt(createdMs)],
    })
  }

  /** See EventStore.findSnapshot. */
  async find(
    scope: CallScope,
    stream: string,
    projection: string,
    atOrBefore: bigint | undefined,
  ): Promise<Snapshot | undefined> {
    const tip = await this.#tips.load(scope, stream)
    if (tip.deletedMs !== undefined) throw streamDeleted(stream)
    const [row] = await this.#cluster.read<SnapshotRow>(scope, {
      cql: `select stream, projection, revision, state, created_ms from snapshots
        where tenant = ? and stream = ? and projection = ? and revision <= ? and revision >= ? limit 1`,
      values: [scope.tenant, stream, projection, atOrBefore ?? tip.head, tip.first - 1n],
    })
    if (row === undefined) return undefined
    const { created_ms, ...rest } = row
    return {
      stream: rest.stream,
      projection: rest.projection,
      revision: rest.revision,
      state: rest.state,
      createdMs: Number(created_ms),
    }
  }

  /** Reclaims a stream's snapshots below a revision. */
  async sweep(scope: CallScope, stream: string, below: bigint): Promise<void> {
    const projections = await this.#cluster.read<{ projection: string }>(scope, {
      cql: "select projection from snapshot_projections where tenant = ? and stream = ?",
      values: [scope.tenant, stream],
    })
    for (const { projection } of projections) {
      await this.#cluster.write(scope, {
        cql: "delete from snapshots where tenant = ? and stream = ? and projection = ? and revision < ?",
        values: [scope.tenant, stream, projection, below],
      })
    }
  }
}
