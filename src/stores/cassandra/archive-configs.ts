/** Versioned configuration in Cassandra, as archives read and write it. */
import type { ItemOf } from "../../domain/archive/model.ts"
import type { Archive, ItemSink } from "../../domain/archive/ports.ts"
import type { ConfigValue, ConfigVersion } from "../../domain/control/model.ts"
import { type Clock, systemClock } from "../../domain/kernel/clock.ts"
import type { JsonObject } from "../../domain/kernel/json.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { requireLive } from "../../domain/kernel/wake-ups.ts"
import { insertRows, openSegments } from "./archive-segments.ts"
import { placeChange } from "./config-index.ts"
import { changeOf, placeOf, rowOf, segmentOf } from "./config-rows.ts"
import type { Cluster } from "./database.ts"
import { type LogTable, SegmentRows } from "./segment-rows.ts"

const TABLE: LogTable = { name: "config_log" }
const SEGMENTS = 100
/** Rows that are read together; each may have a megabyte. */
const READ_ROWS = 8
const SEGMENT_CHANGES = 1_000n

/** The archive of configuration over a keyspace. Changes are there when {@link Archive.finish} resolves, not before. */
export function createCassandraConfigArchive(cql: Cluster, clock: Clock = systemClock): Archive {
  const rows = new SegmentRows(cql, TABLE)
  /** The last change of each segment. */
  const lasts = new Map<string, bigint>()
  // When the log begins: what is filed under its changes' numbers comes after what was erased.
  const beganMs = clock.now()
  return {
    plane: "configs",
    engine: "cassandra",
    kinds: ["configVersion"],
    holds: async (scope) => (await rows.segments(scope, { newestFirst: true, limit: 1 })).length > 0,
    unfinished: async (scope) => {
      const head = await rows.newest(scope, true)
      const missing = head === undefined ? 0n : head.last - head.indexed
      return missing > 0n ? [`${missing} changes of configuration on their way to the audit log`] : []
    },
    read: (scope, sink) => readChanges(rows, scope, sink),
    write: async (scope, _kind, items) => {
      const changes = (items as readonly ItemOf<"configVersion">[]).map(versionOf)
      for (const [segment, own] of Map.groupBy(changes, ({ sequence }) => segmentFor(sequence))) {
        const known = own.map((config) => ({ config, action: actionOf(config) }))
        await insertRows(cql, scope, TABLE, segment, known.map(rowOf))
        for (const config of own) await placeChange(cql, scope, placeOf(config, segment), beganMs)
        lasts.set(segment, own.at(-1)?.sequence ?? 0n)
      }
    },
    finish: async (scope) => {
      const segments = [...lasts].sort(([a], [b]) => (a < b ? -1 : 1))
      const meta = String(beganMs)
      await openSegments(
        rows,
        scope,
        segments.map(([segment, last]) => ({ segment, last, meta, openedMs: beganMs })),
      )
      return []
    },
  }
}

function segmentFor(sequence: bigint): string {
  return segmentOf(((sequence - 1n) / SEGMENT_CHANGES) * SEGMENT_CHANGES + 1n)
}

/** Only for whoever looks at the log: the audit log tells it already. */
function actionOf({ deleted, rollbackOf }: ConfigVersion): string {
  if (deleted) return "DeleteConfig"
  return rollbackOf === 0n ? "PutConfig" : "RollbackConfig"
}

async function readChanges(rows: SegmentRows, scope: CallScope, sink: ItemSink): Promise<void> {
  for (let from: string | undefined; ; ) {
    const segments = await rows.segments(scope, { newestFirst: false, limit: SEGMENTS, from })
    for (const { segment } of segments) {
      for (let after = BigInt(segment) - 1n; ; ) {
        requireLive(scope)
        const found = await rows.read(scope, segment, after, READ_ROWS)
        await sink(
          "configVersion",
          found.map((row) => itemOf(changeOf(row).config)),
        )
        const last = found.at(-1)
        if (last === undefined || found.length < READ_ROWS) break
        after = last.seq
      }
    }
    const last = segments.at(-1)
    if (last === undefined || segments.length < SEGMENTS) return
    from = `${last.segment}\0`
  }
}

function itemOf(config: ConfigVersion): ItemOf<"configVersion"> {
  const { key, version, sequence, value, deleted, description, author, createTime, rollbackOf } = config
  return {
    key,
    version,
    sequence,
    struct: value?.kind === "struct" ? JSON.stringify(value.struct) : null,
    binary: value?.kind === "bytes" ? value.bytes : null,
    contentType: value?.kind === "bytes" ? value.contentType : "",
    deleted,
    description,
    author,
    createTime,
    rollbackOf,
  }
}

function versionOf({ struct, binary, contentType, ...rest }: ItemOf<"configVersion">): ConfigVersion {
  return { ...rest, value: valueIn(struct, binary, contentType) }
}

function valueIn(
  struct: string | null,
  binary: Uint8Array | null,
  contentType: string,
): ConfigValue | undefined {
  // Nothing but objects was ever kept.
  if (struct !== null) return { kind: "struct", struct: JSON.parse(struct) as JsonObject }
  return binary === null ? undefined : { kind: "bytes", bytes: binary, contentType }
}
