/** Reclaiming expired sessions. Any number of daemons may do it at once, and die in the middle of it. */
import { type CallScope, PLATFORM_TENANT, systemScope, type TenantId } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"
import { EXPIRY_SHARDS, type ExpiryRow, type FiledSession, type SessionIndex } from "./session-index.ts"
import { readHead } from "./session-list.ts"
import { clearHead } from "./session-rows.ts"
import { untilApplied } from "./stamp.ts"

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
  const { session, version, era } = await readHead(cql, scope, row.session_id, true)
  if (session !== undefined && version !== null && era === row.era) {
    if (session.expireMs > now) {
      await index.remind(scope, session, era)
      await index.forget(scope, row)
      return "moved"
    }
    const { applied } = await cql.cas(scope, [clearHead(row.tenant, row.session_id, version)])
    // Somebody else is at it.
    if (!applied) return "left"
  }
  await remove(cql, index, scope, row)
  await index.forget(scope, row)
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

/** Removes a session with its messages. Answers whether it was there. Its reminder finds nothing, and goes at its time. */
export async function eraseSession(
  cql: Cluster,
  index: SessionIndex,
  scope: CallScope,
  sessionId: string,
  now: number,
): Promise<boolean> {
  return untilApplied(scope, async () => {
    const { session, version, era } = await readHead(cql, scope, sessionId, true)
    if (session === undefined || version === null) return false
    const { applied } = await cql.cas(scope, [clearHead(scope.tenant, sessionId, version)])
    if (!applied) return undefined
    const { agentId, userId, createdMs } = session
    await remove(cql, index, scope, {
      session_id: sessionId,
      era,
      agent_id: agentId,
      user_id: userId,
      created_at: new Date(createdMs),
    })
    return session.expireMs > now
  })
}
