/**
 * Copies of records in the vector store. Whoever changes a mirrored collection's records owes their ids to the outbox, in the
 * transaction of the change; the relay reads what is there now and brings it over, so that doing it twice, or late, does no harm.
 */
import type { JsonValue } from "../kernel/json.ts"
import type { Operations } from "../kernel/operations.ts"
import { type CallScope, scopeWith, type TenantId } from "../kernel/scope.ts"
import { uuid7 } from "../kernel/uuid7.ts"
import type { OutboxHandler } from "../outbox/deliver.ts"
import { jsonPayload, type NewOutboxEntry, type OutboxEntry, readJsonPayload } from "../outbox/model.ts"
import type { MirrorDoubts } from "./mirror-doubts.ts"
import type { IndexSpec, MemoryRecord, Metric } from "./model.ts"
import type { VectorPlace, VectorRecord, VectorStore } from "./vector-store.ts"

/** The topic of these entries. Their key is the collection's handle. */
export const MIRROR_TOPIC = "memory-mirror"

/** Ids in one entry. */
const IDS_AT_ONCE = 1_000

/** Where the truth is. */
export interface MirrorSource {
  /** The live records of the collection with this handle as they are now, whole. */
  read(scope: CallScope, ref: string, ids: readonly string[]): Promise<readonly MemoryRecord[]>
  /** The ids whose copies are owed still; undefined where there are more than `limit`. */
  owed(scope: CallScope, ref: string, limit: number): Promise<readonly string[] | undefined>
  /** Owes the copies of these records once more. */
  owe(scope: CallScope, place: VectorPlace, ids: readonly string[]): Promise<void>
  /**
   * The mirrored collection that comes after `after` (its {@link MirroredCollection.ref}) among those of all tenants, for the
   * daemon's own scope; undefined after the last one.
   */
  nextMirrored(scope: CallScope, after: string | undefined): Promise<MirroredCollection | undefined>
}

/** What the methods of {@link MirrorSource} do. */
export const MIRROR_SOURCE_OPERATIONS: Operations<MirrorSource> = {
  read: "read",
  owed: "read",
  nextMirrored: "read",
  owe: "write",
}

/** A mirrored collection of some tenant. */
export interface MirroredCollection {
  readonly tenant: string
  readonly id: string
  readonly ref: string
}

/** Entries that have the copies of these records made, changed or removed. */
export function mirrorChanges(
  tenant: TenantId,
  place: VectorPlace,
  ids: readonly string[],
): NewOutboxEntry[] {
  const entries: NewOutboxEntry[] = []
  for (let at = 0; at < ids.length; at += IDS_AT_ONCE) {
    entries.push(entryOf(tenant, place, { place: placeJson(place), ids: ids.slice(at, at + IDS_AT_ONCE) }))
  }
  return entries
}

/** The entry that has all records of a collection that is gone removed from the vector store. */
export function mirrorDrop(tenant: TenantId, place: VectorPlace): NewOutboxEntry {
  return entryOf(tenant, place, { place: placeJson(place), drop: true })
}

function entryOf(tenant: TenantId, place: VectorPlace, payload: JsonValue): NewOutboxEntry {
  return { topic: MIRROR_TOPIC, tenant, key: place.ref, opId: uuid7(), payload: jsonPayload(payload) }
}

function placeJson({ ref, dimension, metric, index }: VectorPlace): JsonValue {
  return { ref, dimension, metric, index: { ...index } }
}

/** What an entry asks for. */
interface Change {
  readonly place: VectorPlace
  readonly ids: readonly string[]
  readonly drop: boolean
}

/** The ids that an entry's payload names. */
export function owedIds(payload: Uint8Array): readonly string[] {
  return changeOf(payload).ids
}

/** What changes are applied with. */
interface MirrorParts {
  readonly source: MirrorSource
  readonly vectors: VectorStore
  readonly doubts: MirrorDoubts | undefined
}

/** Applies entries of {@link MIRROR_TOPIC}, those of one collection together. `doubts` hears of changes whose outcome is open. */
export function mirrorHandler(
  source: MirrorSource,
  vectors: VectorStore,
  doubts?: MirrorDoubts,
): OutboxHandler {
  return async (scope, { entries }) => {
    for (const own of Map.groupBy(entries, ({ tenant, key }) => `${tenant} ${key}`).values()) {
      await applyTo(scope, { source, vectors, doubts }, own)
    }
  }
}

async function applyTo(
  scope: CallScope,
  { source, vectors, doubts }: MirrorParts,
  entries: readonly OutboxEntry[],
): Promise<void> {
  const [first] = entries
  if (first === undefined) return
  const own = scopeWith(scope, { tenant: first.tenant })
  const changes = entries.map(({ payload }) => changeOf(payload))
  const [{ place } = changeOf(first.payload)] = changes
  // A handle is never used again, so nothing comes after the end.
  if (changes.some(({ drop }) => drop)) return vectors.drop(own, place)
  const ids = [...new Set(changes.flatMap((change) => change.ids))]
  const apply = () => mirrorRecords(own, source, vectors, place, ids)
  await (doubts === undefined ? apply() : doubts.over(first.tenant, place, ids, apply))
}

/** Makes the copies of these records what the records are now. */
export async function mirrorRecords(
  scope: CallScope,
  source: MirrorSource,
  vectors: VectorStore,
  place: VectorPlace,
  ids: readonly string[],
): Promise<void> {
  for (let at = 0; at < ids.length; at += IDS_AT_ONCE) {
    const some = ids.slice(at, at + IDS_AT_ONCE)
    const records = (await source.read(scope, place.ref, some)).map(copyOf)
    if (records.length > 0) await vectors.write(scope, place, records)
    const there = new Set(records.map(({ id }) => id))
    const gone = some.filter((id) => !there.has(id))
    if (gone.length > 0) await vectors.remove(scope, place, gone)
  }
}

/** The copy goes without the text: searches by it, and answers, come from the record itself. */
function copyOf(record: MemoryRecord): VectorRecord {
  const { vector, metadata } = record
  if (vector === undefined || metadata === undefined) throw new Error("a copy needs the whole record")
  return { ...record, text: undefined, vector, metadata }
}

function changeOf(payload: Uint8Array): Change {
  const value = readJsonPayload(payload)
  if (!isObject(value) || !isObject(value.place)) throw new Error("not a change of a mirror")
  const { ref, dimension, metric, index } = value.place
  if (typeof ref !== "string" || typeof dimension !== "number" || !isMetric(metric) || !isIndex(index)) {
    throw new Error("not a change of a mirror")
  }
  const ids = Array.isArray(value.ids) ? value.ids.filter((id) => typeof id === "string") : []
  return { place: { ref, dimension, metric, index }, ids, drop: value.drop === true }
}

function isObject(value: JsonValue | undefined): value is { [key: string]: JsonValue } {
  return typeof value === "object" && value !== null && !Array.isArray(value)
}

function isMetric(value: JsonValue | undefined): value is Metric {
  return value === "COSINE" || value === "L2" || value === "INNER_PRODUCT" || value === "L1"
}

/** Made by {@link placeJson} of a whole one, so that its kind says the rest. */
function isIndex(value: JsonValue | undefined): value is JsonValue & IndexSpec {
  return isObject(value) && ["AUTO", "HNSW", "IVF_FLAT", "FLAT"].some((kind) => kind === value.kind)
}
