/** Reads of streams: glances first, so that a page is cut by its bytes before its events are fetched. */
import { streamDeleted } from "../../domain/event/decide-append.ts"
import {
  type EventStore,
  MAX_READ_BYTES,
  type StatePatch,
  type StreamPage,
  type StreamRead,
} from "../../domain/event/event-store.ts"
import { notFound } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { EventGlance, EventRange, EventRows } from "./event-rows.ts"
import { infoOf, type Tip, type Tips } from "./event-tip.ts"

/** How many events one read looks at when it leaves most of them out. */
const SCAN = 4_096

/** See EventStore.readStream. */
export async function readStream(
  tips: Tips,
  rows: EventRows,
  scope: CallScope,
  read: StreamRead,
): Promise<StreamPage> {
  const tip = await tips.load(scope, read.stream)
  const info = infoOf(tip)
  if (info === undefined) throw notFound("stream", read.stream)
  if (info.deletedMs !== undefined) throw streamDeleted(read.stream)
  const { glances, last } = await scan(rows, scope, rangeOf(read, tip), read)
  const found = await rows.pick(scope, read.stream, glances)
  const events = glances.flatMap(({ revision }) => found.get(revision) ?? [])
  if (read.backwards) {
    const more = last !== undefined && last > info.first
    return { info, events, next: more ? last - 1n : undefined, more }
  }
  const end = info.head + 1n
  const next = last === undefined ? end : last + 1n
  return { info, events, next, more: next < end }
}

function rangeOf({ stream, backwards, from, to }: StreamRead, { head, first }: Tip): EventRange {
  if (backwards)
    return { stream, from: first, to: from === undefined || from > head ? head : from, backwards }
  const start = from ?? 1n
  return {
    stream,
    from: start > first ? start : first,
    to: to === undefined || to > head ? head : to,
    backwards,
  }
}

/** What belongs to the page, and the last revision looked at where there may be more. */
async function scan(
  rows: EventRows,
  scope: CallScope,
  range: EventRange,
  { types, limit }: Pick<StreamRead, "types" | "limit">,
): Promise<{ readonly glances: readonly EventGlance[]; readonly last: bigint | undefined }> {
  const glances: EventGlance[] = []
  let bytes = 0
  let looked = 0
  for await (const glance of rows.glances(scope, range, types.length === 0 ? limit : PAGE_ROWS)) {
    looked++
    if (types.length === 0 || types.includes(glance.type)) {
      if (bytes >= MAX_READ_BYTES) return { glances, last: glances.at(-1)?.revision }
      glances.push(glance)
      bytes += glance.size
    }
    if (glances.length === limit || looked === SCAN) return { glances, last: glance.revision }
  }
  return { glances, last: undefined }
}

const PAGE_ROWS = 512

/** See EventStore.revisionAt. Times never fall within a stream. */
export async function revisionAt(
  tips: Tips,
  rows: EventRows,
  scope: CallScope,
  stream: string,
  atMs: number,
): Promise<bigint> {
  const tip = await tips.load(scope, stream)
  if (tip.head === 0n) return 0n
  if (tip.recordedMs <= atMs) return tip.head
  let [low, high] = [tip.first - 1n, tip.head]
  while (low + 1n < high) {
    const middle = (low + high) / 2n
    const found = await rows.at(scope, stream, middle)
    if (found !== undefined && found.recordedMs <= atMs) low = middle
    else high = middle
  }
  return low
}

/** See EventStore.readPatches. */
export async function readPatches(
  tips: Tips,
  rows: EventRows,
  scope: CallScope,
  wanted: { readonly stream: string; readonly after: bigint; readonly upTo: bigint; readonly limit: number },
): ReturnType<EventStore["readPatches"]> {
  const { stream, after, upTo, limit } = wanted
  const tip = await tips.load(scope, stream)
  const patches: StatePatch[] = []
  let bytes = 0
  let to = upTo
  if (to > tip.head) to = tip.head
  const range = { stream, from: after + 1n, to }
  for await (const { revision, state_patch, size } of rows.patches(scope, range)) {
    if (state_patch === null) continue
    if (patches.length === limit || bytes >= MAX_READ_BYTES)
      return { first: tip.first, patches, next: patches.at(-1)?.revision }
    patches.push({ revision, patch: state_patch })
    bytes += size
  }
  return { first: tip.first, patches, next: undefined }
}
