/** Streams as a whole: listing, truncation, tombstones, states. */
import { randomUUID } from "node:crypto"
import { streamDeleted } from "../../domain/event/decide-append.ts"
import { categoryOf, type Snapshot, type StreamInfo } from "../../domain/event/event-model.ts"
import type { SnapshotDraft, StreamQuery } from "../../domain/event/event-store.ts"
import { DomainError, notFound, revisionMismatch } from "../../domain/kernel/errors.ts"
import { type FieldValue, matchesFilter } from "../../domain/kernel/filter/index.ts"
import type { Page, PageRequest } from "../../domain/kernel/paging.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import { isUnknown } from "./errors.ts"
import type { Snapshots } from "./event-snapshots.ts"
import { markSweep } from "./event-sweep.ts"
import { infoOf, type Tip, type Tips } from "./event-tip.ts"
import { untilApplied } from "./stamp.ts"
import type { StreamNames } from "./stream-names.ts"

/** What streams as a whole need. */
export interface StreamDeps {
  readonly cluster: Cluster
  readonly tips: Tips
  readonly names: StreamNames
  readonly snapshots: Snapshots
  now(): number
}

/** How many names one listing looks at when it leaves most of them out. */
const SCAN = 2_000

/** See EventStore.listStreams. */
export async function listStreams(
  { tips, names }: StreamDeps,
  scope: CallScope,
  query: StreamQuery,
  page: PageRequest,
): Promise<Page<StreamInfo>> {
  const { category, prefix = "" } = query
  // All names of a category begin with it; a prefix beside it may be the longer one.
  const start = category === undefined || prefix.startsWith(category) ? prefix : category
  const items: StreamInfo[] = []
  let after = page.cursor?.[0]
  for (let looked = 0; looked < SCAN; ) {
    const limit = page.size + 1
    const found = await names.list(scope, { after, prefix: start, limit })
    const infos = await Promise.all(
      found.map(async (name) => (belongs(name, query) ? infoOf(await tips.load(scope, name)) : undefined)),
    )
    for (const [at, info] of infos.entries()) {
      if (info === undefined || !isWanted(info, query)) continue
      if (items.length === page.size) return { items, next: [items.at(-1)?.stream ?? found[at - 1] ?? ""] }
      items.push(info)
    }
    after = found.at(-1)
    looked += found.length
    if (after === undefined || found.length < limit) return { items, next: undefined }
  }
  return { items, next: after === undefined ? undefined : [after] }
}

function belongs(name: string, { category, prefix = "" }: StreamQuery): boolean {
  return (category === undefined || categoryOf(name) === category) && name.startsWith(prefix)
}

function isWanted(info: StreamInfo, { filter, showDeleted }: StreamQuery): boolean {
  if (!showDeleted && info.deletedMs !== undefined) return false
  return filter === undefined || matchesFilter(filter, (field) => fieldOf(info, field))
}

function fieldOf(info: StreamInfo, field: string): FieldValue {
  switch (field) {
    case "stream":
      return info.stream
    case "category":
      return info.category
    case "revision":
      return info.head
    case "first_revision":
      return info.first
    case "create_time":
      return info.createdMs
    case "update_time":
      return info.recordedMs
    case "deleted":
      return info.deletedMs !== undefined
    default:
      throw new RangeError(`streams have no field ${field}`)
  }
}

function pastHead(field: string, value: bigint, info: StreamInfo): DomainError {
  return new DomainError(
    "FAILED_PRECONDITION",
    `${field} ${value} lies past the last event of stream "${info.stream}", which has revision ${info.head}`,
    { metadata: { resource: "stream", name: info.stream, state: `revision ${info.head}` } },
  )
}

function beforeFirst(info: StreamInfo): DomainError {
  const { stream, first, head } = info
  return new DomainError(
    "FAILED_PRECONDITION",
    `the state of stream "${stream}" is known only from revision ${first - 1n} on, where it was truncated`,
    { metadata: { resource: "stream", name: stream, state: `revisions ${first - 1n} to ${head}` } },
  )
}

function changedMeanwhile(info: StreamInfo): DomainError {
  return new DomainError(
    "OVERLOADED",
    `stream "${info.stream}" changed meanwhile; nothing was done, repeat it`,
    { metadata: { resource: "stream", name: info.stream }, retryDelayMs: 100 },
  )
}

async function existing(tips: Tips, scope: CallScope, stream: string): Promise<[Tip, StreamInfo]> {
  const tip = await tips.load(scope, stream)
  const info = infoOf(tip)
  if (info === undefined) throw notFound("stream", stream)
  return [tip, info]
}

/** See EventStore.saveSnapshot. */
export async function saveSnapshot(
  { tips, snapshots, now }: StreamDeps,
  scope: CallScope,
  draft: SnapshotDraft,
): Promise<Snapshot> {
  const { stream, projection, state } = draft
  const [, info] = await existing(tips, scope, stream)
  if (info.deletedMs !== undefined) throw streamDeleted(stream)
  const revision = draft.revision ?? info.head
  if (revision > info.head) throw pastHead("revision", revision, info)
  if (revision < info.first - 1n) throw beforeFirst(info)
  if (state === undefined) throw changedMeanwhile(info)
  const snapshot = { stream, projection, revision, state, createdMs: now() }
  await snapshots.save(scope, snapshot)
  return snapshot
}

/** See EventStore.truncateStream. */
export function truncateStream(
  deps: StreamDeps,
  scope: CallScope,
  cut: { readonly stream: string; readonly before: bigint; readonly state: string | undefined },
): Promise<StreamInfo> {
  const { stream, before, state } = cut
  return decided(scope, async (doubt) => {
    const [tip, info] = await existing(deps.tips, scope, stream)
    if (info.deletedMs !== undefined) throw streamDeleted(stream)
    if (before > info.head + 1n) throw pastHead("before_revision", before, info)
    if (before <= info.first) return info
    if (state === undefined) throw changedMeanwhile(info)
    const createdMs = deps.now()
    await deps.snapshots.save(scope, { stream, projection: "", revision: before - 1n, state, createdMs })
    return change(deps, scope, tip, { first: before }, doubt)
  })
}

/** See EventStore.deleteStream. */
export function deleteStream(
  deps: StreamDeps,
  scope: CallScope,
  stream: string,
  ifRevision: bigint | undefined,
): Promise<StreamInfo> {
  return decided(scope, async (doubt) => {
    const [tip, info] = await existing(deps.tips, scope, stream)
    if (info.deletedMs !== undefined) return info
    if (ifRevision !== undefined && ifRevision !== info.head) {
      throw revisionMismatch("stream", stream, ifRevision, info.head)
    }
    return change(deps, scope, tip, { first: info.head + 1n, deletedMs: deps.now() }, doubt)
  })
}

/** Fails as unknown where it was once in doubt whether the change took place, whatever came after that. */
async function decided<R>(
  scope: CallScope,
  attempt: (doubt: (error: unknown) => void) => Promise<R | undefined>,
) {
  let doubt: unknown
  try {
    return await untilApplied(scope, () =>
      attempt((error) => {
        doubt = error
      }),
    )
  } catch (error) {
    throw doubt ?? error
  }
}

/** The stream after the change; undefined where it has to be looked at again. */
async function change(
  { cluster, tips, now }: StreamDeps,
  scope: CallScope,
  tip: Tip,
  what: Partial<Pick<Tip, "first" | "deletedMs">>,
  doubt: (error: unknown) => void,
): Promise<StreamInfo | undefined> {
  // The sweeper finds it even if we die right after the change.
  await Promise.all([tips.announce(scope, tip), markSweep(cluster, scope, tip.stream, randomUUID())])
  try {
    const { applied } = await tips.write(scope, tip, what, [], now())
    return applied ? infoOf({ ...tip, ...what }) : undefined
  } catch (error) {
    if (!isUnknown(error)) throw error
    doubt(error)
    // A serial read decides; what it finds is what the next look sees.
    const found = await tips.load(scope, tip.stream, true).catch(() => {
      throw error
    })
    const done =
      found.first >= (what.first ?? 0n) && (what.deletedMs === undefined || found.deletedMs !== undefined)
    return done ? infoOf(found) : undefined
  }
}
