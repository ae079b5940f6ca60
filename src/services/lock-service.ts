/** LockService. */
import type { MessageInitShape } from "@bufbuild/protobuf"
import { type Duration, durationMs, timestampFromMs } from "@bufbuild/protobuf/wkt"
import type { LockHolder } from "../domain/cache/lock-model.ts"
import type { LockQueue } from "../domain/cache/lock-queue.ts"
import { limitExceeded } from "../domain/kernel/errors.ts"
import type { JsonObject } from "../domain/kernel/json.ts"
import {
  type LockHolderSchema,
  LockService as LockServiceDescriptor,
} from "../gen/keelplane/v1/lock_service_pb.ts"
import { type Service, service } from "../rpc/handler.ts"

const DEFAULT_TTL_MS = 30_000
const METADATA_MAX_BYTES = 4 * 1024
/** The store's tokens are signed 64-bit numbers; a greater one belongs to nobody. */
const TOKEN_MAX = 2n ** 63n - 1n

/** What {@link createLockService} needs. */
export interface LockServiceDeps {
  readonly locks: LockQueue
}

/** LockService over a queue of waiters. */
export function createLockService({ locks }: LockServiceDeps): Service {
  return service(LockServiceDescriptor, {
    acquireLock: async (req, ctx) => {
      const metadata = req.metadata ?? {}
      requireSmall(metadata)
      const request = { name: req.name, ownerId: req.ownerId, ttlMs: ttlOf(req.ttl), metadata }
      const attempt = await locks.acquire(ctx, request, req.wait === undefined ? 0 : durationMs(req.wait))
      if (!attempt.acquired) return { acquired: false, holder: holderMessage(attempt.holder) }
      const { token, expireMs } = attempt.holder
      return { acquired: true, token, expireTime: timestampFromMs(expireMs) }
    },
    renewLock: async (req, ctx) => {
      const expireMs = await locks.store.renew(ctx, req.name, tokenOf(req.token), ttlOf(req.ttl))
      return { expireTime: timestampFromMs(expireMs) }
    },
    releaseLock: async (req, ctx) => {
      await locks.release(ctx, req.name, tokenOf(req.token))
      return {}
    },
    getLock: async (req, ctx) => {
      const holder = await locks.store.get(ctx, req.name)
      return {
        held: holder !== undefined,
        holder: holderMessage(holder),
        waiters: locks.waiting(ctx, req.name),
      }
    },
  })
}

function ttlOf(ttl: Duration | undefined): number {
  return ttl === undefined ? DEFAULT_TTL_MS : Math.round(durationMs(ttl))
}

function tokenOf(token: bigint): bigint {
  return token > TOKEN_MAX ? TOKEN_MAX : token
}

function requireSmall(metadata: JsonObject): void {
  const bytes = Buffer.byteLength(JSON.stringify(metadata))
  if (bytes > METADATA_MAX_BYTES) throw limitExceeded("metadata", bytes, METADATA_MAX_BYTES)
}

function holderMessage(
  holder: LockHolder | undefined,
): MessageInitShape<typeof LockHolderSchema> | undefined {
  if (holder === undefined) return undefined
  return {
    ownerId: holder.ownerId,
    token: holder.token,
    acquireTime: timestampFromMs(holder.acquireMs),
    expireTime: timestampFromMs(holder.expireMs),
    metadata: holder.metadata,
  }
}
