/** The outbox on the wire. */
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt"
import type { OutboxTopicStatus, ParkedEntry } from "../domain/outbox/model.ts"
import type { OfOutbox, OutboxOperators } from "../domain/outbox/operators.ts"
import type { ListOutboxRequest, ReplayOutboxRequest } from "../gen/keelplane/v1/admin_service_pb.ts"
import type { CallContext } from "../rpc/handler.ts"
import type { Pages } from "./paging.ts"

const PAGE = { defaultSize: 100, maxSize: 1_000 }

const given = (text: string): string | undefined => (text === "" ? undefined : text)

/** AdminService.ListOutbox. */
export async function listOutbox(
  outbox: OutboxOperators,
  pages: Pages,
  req: ListOutboxRequest,
  ctx: CallContext,
) {
  const choice = { store: given(req.store), topic: given(req.topic) }
  const { topics, parked, unreachable } = await outbox.list(ctx, choice, pages.request(ctx, req, PAGE))
  return {
    topics: topics.map(topicMessage),
    parkedEntries: parked.items.map(parkedMessage),
    nextPageToken: pages.token(ctx, req, parked.next),
    unreachableStores: [...unreachable],
  }
}

/** AdminService.ReplayOutbox. */
export async function replayOutbox(outbox: OutboxOperators, req: ReplayOutboxRequest, ctx: CallContext) {
  const ids = req.entryIds.length === 0 ? undefined : req.entryIds
  const count = await outbox.replay(ctx, { store: given(req.store), topic: given(req.topic), ids })
  return { replayedCount: BigInt(count) }
}

function topicMessage({ store, topic, pending, parked, oldestAgeMs }: OfOutbox<OutboxTopicStatus>) {
  return {
    store,
    topic,
    pendingCount: pending,
    parkedCount: parked,
    oldestPendingAge: oldestAgeMs === undefined ? undefined : durationFromMs(Math.round(oldestAgeMs)),
  }
}

function parkedMessage(entry: OfOutbox<ParkedEntry>) {
  return {
    store: entry.store,
    entryId: entry.id,
    topic: entry.topic,
    tenantId: entry.tenant,
    key: entry.key,
    opId: entry.opId,
    payloadBytes: BigInt(entry.payloadBytes),
    createTime: timestampFromMs(entry.createdMs),
    parkTime: timestampFromMs(entry.parkedMs),
    failureCount: entry.failures,
    reason: entry.fault.reason,
    message: entry.fault.message,
  }
}
