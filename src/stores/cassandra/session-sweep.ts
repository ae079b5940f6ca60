/** Reclaiming expired sessions. Any number of daemons may do it at once, and die in the middle of it. */
import type { Session } from "../../domain/event/session-model.ts"
import { type CallScope, PLATFORM_TENANT, systemScope, type TenantId } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import { isUnknown, outcomeUnknown } from "./errors.ts"
import { EXPIRY_SHARDS, type ExpiryRow, type FiledSession, type SessionIndex } from "./session-index.ts"
import { readHead } from "./session-list.ts"
import { clearHead, clearPart, moveReminder, type SessionHead } from "./session-rows.ts"
import { nextStamp, untilApplied } from "./stamp.ts"

const SWEEP_AT_ONCE = 8
/** Written so far after everything that it removes, whatever the clocks say: an era's rows are never written again. */
const AHEAD_MS = 3_600_000

/** Sees to at most `limit` reminders and answers how many; fewer mean that none is left. */
export async function sweepSessions(
  cql: Cluster,
  index: SessionIndex,
  scope: CallScope,
  now: number,
  limit: number,
): Promise<number> {
  let done = 0
  for (const hour of await index.hours(scope, now)) {
    let left = scope.tenant !== PLATFORM_TENANT
    for (let shard = 0; shard < EXPIRY_SHARDS; shard++) {
      const due = await index.due(scope, hour, shard, now, limit - done)
      const gone: ExpiryRow[] = []
      for (let at = 0; at < due.length; at += SWEEP_AT_ONCE) {
        const some = due.slice(at, at + SWEEP_AT_ONCE)
        const fates = await Promise.all(some.map((row) => reclaim(cql, index, scope, row, now)))
        gone.push(...some.filter((_, n) => fates[n] === "gone"))
        left ||= fates.includes("left")
      }
      await index.closeDays(scope, gone, now)
      done += due.length
      if (done >= limit) return limit
    }
    if (!left) await index.closeHour(scope, hour, now)
  }
  return done
}

/** What became of a reminder: its session is gone, or will be later; or it stays for the next run. */
type Fate = "gone" | "moved" | "left"

async function reclaim(
  cql: Cluster,
  index: SessionIndex,
  by: CallScope,
  row: ExpiryRow,
  now: number,
): Promise<Fate> {
  // Only parsed ids are ever written.
  const scope = systemScope(row.tenant as TenantId, by.signal)
  const head = await readHead(cql, scope, row.session_id, true)
  const { session, version, era } = head
  const remindMs = row.expires_at.getTime()
  if (session !== undefined && version !== null && era === row.era) {
    const later = session.expireMs > now
    if (later) await index.remind(scope, session, era)
    const { applied } = await cql.cas(scope, [
      later
        ? moveReminder(row.tenant, row.session_id, version, nextStamp(head), session.expireMs)
        : clearHead(row.tenant, row.session_id, version),
    ])
    // Somebody else is at it.
    if (!applied) return "left"
    if (later) {
      await index.forget(scope, row.session_id, era, remindMs)
      return "moved"
    }
  }
  await remove(cql, index, scope, row)
  await index.forget(scope, row.session_id, row.era, remindMs)
  return "gone"
}

/** Removes what a session that is gone has left. */
async function remove(
  cql: Cluster,
  index: SessionIndex,
  scope: CallScope,
  gone: FiledSession,
): Promise<void> {
  await cql.write(scope, {
    cql: "delete from sessions using timestamp ? where tenant = ? and session_id = ? and part = ?",
    values: [BigInt(Date.now() + AHEAD_MS) * 1_000n, scope.tenant, gone.session_id, gone.era],
  })
  await index.unfile(scope, gone)
}

/** Removes what was filed, and the messages that belong to it; its session is gone or was never made. */
export async function removeFiled(
  cql: Cluster,
  index: SessionIndex,
  scope: CallScope,
  filed: FiledSession & { readonly remind_at: Date },
): Promise<void> {
  await remove(cql, index, scope, filed)
  await index.forget(scope, filed.session_id, filed.era, filed.remind_at.getTime())
}

/** Removes a session with its messages and kept answers, all at once. Answers whether it was there. */
export async function eraseSession(
  cql: Cluster,
  index: SessionIndex,
  scope: CallScope,
  sessionId: string,
  now: number,
): Promise<boolean> {
  let doubted: SessionHead | undefined
  return untilApplied(scope, async () => {
    const head = await readHead(cql, scope, sessionId, true)
    // Where an answer was lost it is gone by that very write, or by another one that did the same.
    const gone = doubted?.session !== undefined && doubted.era !== head.era ? doubted : undefined
    if (gone?.session !== undefined) return forgetErased(index, scope, gone, gone.session, now)
    const { session, version, era } = head
    if (session === undefined || version === null) return false
    // The sweep takes it out of the lists if we die before we do.
    await index.remind(scope, { ...session, expireMs: now }, era)
    try {
      const { applied } = await cql.cas(scope, [
        clearHead(scope.tenant, sessionId, version),
        clearPart(scope.tenant, sessionId, ""),
        clearPart(scope.tenant, sessionId, era),
      ])
      return applied ? forgetErased(index, scope, head, session, now) : undefined
    } catch (error) {
      if (!isUnknown(error)) throw doubted === undefined ? error : outcomeUnknown(error)
      doubted = head
      return undefined
    }
  })
}

/** Takes an erased session out of what finds it. Answers whether it had not expired. */
async function forgetErased(
  index: SessionIndex,
  scope: CallScope,
  { era, remindMs }: SessionHead,
  { sessionId, agentId, userId, createdMs, expireMs }: Session,
  now: number,
): Promise<boolean> {
  const filed = { session_id: sessionId, era, agent_id: agentId, user_id: userId }
  await index.unfile(scope, { ...filed, created_at: new Date(createdMs) })
  await index.forget(scope, sessionId, era, remindMs)
  await index.forget(scope, sessionId, era, now)
  return expireMs > now
}
