/** Publish and Subscribe of CacheService. */
import type { MessageInitShape } from "@bufbuild/protobuf"
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import type { TopicFrame } from "../domain/cache/ports.ts"
import { invalidField } from "../domain/kernel/errors.ts"
import type * as pb from "../gen/keelplane/v1/cache_service_pb.ts"
import type { CallContext } from "../rpc/handler.ts"
import { andThen, type CacheServiceDeps } from "./cache-deps.ts"
import { durationMs, readValue, toValueMessage } from "./cache-values.ts"

const HEARTBEAT_DEFAULT_MS = 15_000
const HEARTBEAT_SHORTEST_MS = 1_000
const HEARTBEAT_LONGEST_MS = 300_000
const MAXIMUM_TOPICS = 64

/** The handlers. */
export function cacheTopics({ pubsub }: CacheServiceDeps) {
  return {
    publish(request: pb.CacheServicePublishRequest, ctx: CallContext) {
      if (request.topic === "") throw invalidField("topic", "is empty")
      if (request.payload === undefined) throw invalidField("payload", "is missing")
      return andThen(
        pubsub.publish(ctx, request.topic, readValue(request.payload, "payload.")),
        ({ sequence, subscribers }) => ({ sequence, subscribers }),
      )
    },
    async *subscribe(
      request: pb.CacheServiceSubscribeRequest,
      ctx: CallContext,
    ): AsyncGenerator<MessageInitShape<typeof pb.CacheServiceSubscribeResponseSchema>> {
      const { topics, patterns, heartbeatInterval } = request
      const count = topics.length + patterns.length
      if (count < 1 || count > MAXIMUM_TOPICS) {
        throw invalidField("topics", `and patterns together must be 1 to ${MAXIMUM_TOPICS}, are ${count}`)
      }
      const heartbeatIntervalMs =
        heartbeatInterval === undefined
          ? HEARTBEAT_DEFAULT_MS
          : durationMs(heartbeatInterval, "heartbeat_interval", HEARTBEAT_SHORTEST_MS, HEARTBEAT_LONGEST_MS)
      for await (const frame of pubsub.subscribe(ctx, { topics, patterns, heartbeatIntervalMs })) {
        yield toFrameMessage(frame)
      }
    },
  }
}

function toFrameMessage(frame: TopicFrame): MessageInitShape<typeof pb.CacheServiceSubscribeResponseSchema> {
  switch (frame.kind) {
    case "heartbeat":
      return { frame: { case: "heartbeat", value: { time: timestampFromMs(frame.timeMs) } } }
    case "discontinuity":
      return { frame: { case: "discontinuity", value: { dropped: BigInt(frame.dropped) } } }
    case "message": {
      const { topic, sequence, payload, publishTimeMs } = frame.message
      const publishTime = timestampFromMs(publishTimeMs)
      const value = { topic, sequence, payload: toValueMessage(payload), publishTime }
      return { frame: { case: "message", value } }
    }
  }
}
