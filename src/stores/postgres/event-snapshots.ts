/** What a stream's state is folded from. */
import { streamDeleted } from "../../domain/event/decide-append.ts"
import type { Snapshot } from "../../domain/event/event-model.ts"
import { type EventStore, MAX_READ_BYTES, type StatePatch } from "../../domain/event/event-store.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Database, Statement } from "./database.ts"
import { SNAPSHOT_COLUMNS, type SnapshotRow, snapshotOf } from "./event-rows.ts"

interface PatchRow {
  readonly first_revision: bigint
  readonly found: bigint | null
  readonly revision: bigint
  readonly state_patch: string
}

/** See EventStore.readPatches. */
export async function readPatches(
  database: Database,
  scope: CallScope,
  stream: string,
  after: bigint,
  upTo: bigint,
  limit: number,
): ReturnType<EventStore["readPatches"]> {
  const { rows } = await database.query<PatchRow>(scope, {
    name: "event_patches",
    text: `select s.first_revision, p.found, p.revision, p.state_patch from streams s left join (
        select e.*, count(*) over () as found, sum(e.size) over (order by e.revision) - e.size as before from (
          select e.revision, e.state_patch, e.size from events e
          where e.tenant = $1 and e.stream = $2 and e.revision > $3 and e.revision <= $4 and e.state_patch is not null
          order by e.revision limit $5) e) p on p.before < $6
      where s.tenant = $1 and s.stream = $2 order by p.revision`,
    values: [scope.tenant, stream, after, upTo, limit, MAX_READ_BYTES],
  })
  const found = rows.filter((row) => row.found !== null)
  const patches: StatePatch[] = found.map((row) => ({ revision: row.revision, patch: row.state_patch }))
  const full = patches.length === limit || BigInt(patches.length) < (found[0]?.found ?? 0n)
  return { first: rows[0]?.first_revision ?? 1n, patches, next: full ? patches.at(-1)?.revision : undefined }
}

/** See EventStore.findSnapshot. */
export async function findSnapshot(
  database: Database,
  scope: CallScope,
  stream: string,
  projection: string,
  atOrBefore: bigint | undefined,
): Promise<Snapshot | undefined> {
  const { rows } = await database.query<FoundRow>(scope, {
    name: "event_snapshot",
    text: `select s.deleted_at is not null as deleted, p.* from streams s left join lateral (
        select ${SNAPSHOT_COLUMNS} from snapshots
        where tenant = $1 and stream = $2 and projection = $3 and ($4::bigint is null or revision <= $4)
          and revision >= s.first_revision - 1
        order by revision desc limit 1) p on true
      where s.tenant = $1 and s.stream = $2`,
    values: [scope.tenant, stream, projection, atOrBefore ?? null],
  })
  const [row] = rows
  if (row === undefined) return undefined
  const { deleted, ...snapshot } = row
  if (deleted) throw streamDeleted(stream)
  return isSnapshot(snapshot) ? snapshotOf(snapshot) : undefined
}

/** The stream, with or without a snapshot. */
type FoundRow = { readonly deleted: boolean } & (SnapshotRow | { readonly revision: null })

function isSnapshot(row: SnapshotRow | { readonly revision: null }): row is SnapshotRow {
  return row.revision !== null
}

/** Keeps a snapshot and answers its row. */
export function snapshotStatement(
  tenant: string,
  snapshot: Omit<Snapshot, "createdMs">,
  now: number,
): Statement {
  return {
    name: "event_snapshot_save",
    text: `insert into snapshots (tenant, stream, projection, revision, state, created_at) values ($1, $2, $3, $4, $5, $6)
      on conflict (tenant, stream, projection, revision) do update
        set state = excluded.state, created_at = excluded.created_at
      returning ${SNAPSHOT_COLUMNS}`,
    values: [tenant, snapshot.stream, snapshot.projection, snapshot.revision, snapshot.state, new Date(now)],
  }
}
