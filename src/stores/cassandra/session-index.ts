/** What sessions are found by: their creation for lists, their expiry for the sweep. Rows here mean nothing without a session. */
import type { Session as Conversation } from "../../domain/event/session-model.ts"
import type { SessionQuery } from "../../domain/event/session-store.ts"
import { type CallScope, PLATFORM_TENANT } from "../../domain/kernel/scope.ts"
import type { Cluster } from "./database.ts"

const HOUR_MS = 3_600_000
/** Partitions of an hour's expiries. */
export const EXPIRY_SHARDS = 8
/** Most hours that are remembered as being on their list. */
const REMEMBERED = 50_000

/** A session as the index knows it. */
export interface IndexedSession {
  readonly sessionId: string
  readonly era: string
  readonly createdMs: number
}

/** What a session is filed under. */
export interface FiledSession {
  readonly session_id: string
  readonly era: string
  readonly agent_id: string
  readonly user_id: string
  readonly created_at: Date
}

/** A row of the expiry table. */
export interface ExpiryRow extends FiledSession {
  readonly hour: bigint
  readonly shard: number
  readonly expires_at: Date
  readonly tenant: string
}

type Filed = Pick<Conversation, "sessionId" | "agentId" | "userId" | "createdMs" | "expireMs">

/** Reads and writes the tables beside the sessions' own. */
export class SessionIndex {
  readonly #cql: Cluster
  /** Hours that are on their list for certain. */
  readonly #listed = new Set<string>()

  constructor(cql: Cluster) {
    this.#cql = cql
  }

  /** Files a session that is about to be made. */
  async file(scope: CallScope, session: Filed, era: string): Promise<void> {
    const day = dayOf(session.createdMs)
    const { tenant } = scope
    await Promise.all([
      ...ownersOf(session).map(async (owner) => {
        // Each time anew: whoever erased a tenant has erased his days.
        await this.#cql.write(scope, {
          cql: "insert into session_days (tenant, owner, day) values (?, ?, ?)",
          values: [tenant, owner, day],
        })
        await this.#cql.write(scope, {
          cql: `insert into session_index (tenant, owner, day, created_at, session_id, era, agent_id, user_id, remind_at)
            values (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
          values: [
            tenant,
            owner,
            day,
            new Date(session.createdMs),
            session.sessionId,
            era,
            session.agentId,
            session.userId,
            new Date(session.expireMs),
          ],
        })
      }),
      this.remind(scope, session, era),
    ])
  }

  /** Has the sweep look at a session when it expires. */
  async remind(scope: CallScope, session: Filed, era: string): Promise<void> {
    const hour = hourOf(session.expireMs)
    await this.#list(`${hour}`, scope, {
      cql: "insert into session_expiry_hours (zero, hour) values (0, ?)",
      values: [hour],
    })
    await this.#cql.write(scope, {
      cql: `insert into session_expiry (hour, shard, expires_at, tenant, session_id, era, agent_id, user_id, created_at)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
      values: [
        hour,
        shardOf(era),
        new Date(session.expireMs),
        scope.tenant,
        session.sessionId,
        era,
        session.agentId,
        session.userId,
        new Date(session.createdMs),
      ],
    })
  }

  /** Takes a session out of the lists that is gone. */
  async unfile(scope: CallScope, row: FiledSession): Promise<void> {
    const day = dayOf(row.created_at.getTime())
    const owners = ownersOf({ agentId: row.agent_id, userId: row.user_id })
    await Promise.all(
      owners.map((owner) =>
        this.#cql.write(scope, {
          cql: `delete from session_index where tenant = ? and owner = ? and day = ? and created_at = ? and session_id = ?
            and era = ?`,
          values: [scope.tenant, owner, day, row.created_at, row.session_id, row.era],
        }),
      ),
    )
  }

  /** Takes a reminder away that was seen to, or is of no use any more. */
  async forget(scope: CallScope, sessionId: string, era: string, remindMs: number): Promise<void> {
    await this.#cql.write(scope, {
      cql: `delete from session_expiry where hour = ? and shard = ? and expires_at = ? and tenant = ? and session_id = ?
        and era = ?`,
      values: [hourOf(remindMs), shardOf(era), new Date(remindMs), scope.tenant, sessionId, era],
    })
  }

  /** Hours up to `now` with reminders, oldest first. */
  async hours(scope: CallScope, now: number): Promise<readonly bigint[]> {
    const rows = await this.#cql.read<{ hour: bigint }>(scope, {
      cql: "select hour from session_expiry_hours where zero = 0 and hour <= ?",
      values: [hourOf(now)],
    })
    return rows.map(({ hour }) => hour)
  }

  /** Reminders of an hour that are due, of all tenants with the platform's scope. */
  async due(
    scope: CallScope,
    hour: bigint,
    shard: number,
    now: number,
    limit: number,
  ): Promise<readonly ExpiryRow[]> {
    const due: ExpiryRow[] = []
    const pages = this.#cql.pages<ExpiryRow>(scope, {
      cql: `select hour, shard, expires_at, tenant, session_id, era, agent_id, user_id, created_at from session_expiry
        where hour = ? and shard = ? and expires_at <= ?`,
      values: [hour, shard, new Date(now)],
    })
    for await (const page of pages) {
      due.push(...page.filter(({ tenant }) => scope.tenant === PLATFORM_TENANT || tenant === scope.tenant))
      if (due.length >= limit) break
    }
    return due.slice(0, limit)
  }

  /** Takes an hour off the list that is long over and has no reminders; nobody writes to it any more. */
  async closeHour(scope: CallScope, hour: bigint, now: number): Promise<void> {
    if (Number(hour + 2n) * HOUR_MS > now) return
    await this.#cql.write(scope, {
      cql: "delete from session_expiry_hours where zero = 0 and hour = ?",
      values: [hour],
    })
  }

  /** Takes days off the lists whose sessions are all gone. */
  async closeDays(scope: CallScope, gone: readonly ExpiryRow[], now: number): Promise<void> {
    const days = new Map<string, readonly [tenant: string, owner: string, day: string]>()
    for (const row of gone) {
      const created = row.created_at.getTime()
      if (created + 48 * HOUR_MS > now) continue
      for (const owner of ownersOf({ agentId: row.agent_id, userId: row.user_id })) {
        const place = [row.tenant, owner, dayOf(created)] as const
        days.set(place.join(" "), place)
      }
    }
    for (const place of days.values()) {
      const [left] = await this.#cql.read(scope, {
        cql: "select session_id from session_index where tenant = ? and owner = ? and day = ? limit 1",
        values: place,
      })
      if (left !== undefined) continue
      await this.#cql.write(scope, {
        cql: "delete from session_days where tenant = ? and owner = ? and day = ?",
        values: place,
      })
    }
  }

  /** Sessions that may fit the query, the most recently made first, from after `cursor`. */
  async *newest(
    scope: CallScope,
    query: SessionQuery,
    cursor: { readonly createdMs: number; readonly sessionId: string } | undefined,
  ): AsyncGenerator<readonly IndexedSession[]> {
    const owner = ownerOf(query)
    const days = this.#cql.pages<{ day: string }>(scope, {
      cql: "select day from session_days where tenant = ? and owner = ? and day <= ?",
      values: [scope.tenant, owner, cursor === undefined ? LAST_DAY : dayOf(cursor.createdMs)],
    })
    const after = cursor ?? { createdMs: END_MS, sessionId: "" }
    for await (const page of days) {
      for (const { day } of page) {
        const rows = this.#cql.pages<IndexRow>(
          scope,
          {
            cql: `select created_at, session_id, era from session_index where tenant = ? and owner = ? and day = ?
              and (created_at, session_id) < (?, ?)`,
            values: [scope.tenant, owner, day, new Date(after.createdMs), after.sessionId],
          },
          { pageRows: 64 },
        )
        for await (const found of rows) yield found.map(indexedOf)
      }
    }
  }

  /** Everything that was filed under a day, with or without a session. */
  async *filed(scope: CallScope, day: string): AsyncGenerator<FiledSession & { readonly remind_at: Date }> {
    const pages = this.#cql.pages<FiledSession & { readonly remind_at: Date }>(scope, {
      cql: `select session_id, era, agent_id, user_id, created_at, remind_at from session_index
        where tenant = ? and owner = '' and day = ?`,
      values: [scope.tenant, day],
    })
    for await (const page of pages) yield* page
  }

  async #list(
    key: string,
    scope: CallScope,
    statement: { readonly cql: string; readonly values: unknown[] },
  ) {
    if (this.#listed.has(key)) return
    await this.#cql.write(scope, statement)
    if (this.#listed.size >= REMEMBERED) this.#listed.clear()
    this.#listed.add(key)
  }
}

const LAST_DAY = "9999-12-31"
/** After every session. */
const END_MS = Date.UTC(9999, 11, 31)

interface IndexRow {
  readonly created_at: Date
  readonly session_id: string
  readonly era: string
}

function indexedOf(row: IndexRow): IndexedSession {
  return { sessionId: row.session_id, era: row.era, createdMs: row.created_at.getTime() }
}

function hourOf(ms: number): bigint {
  return BigInt(Math.floor(ms / HOUR_MS))
}

function dayOf(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10)
}

function ownersOf({ agentId, userId }: Pick<Conversation, "agentId" | "userId">): readonly string[] {
  return ["", ...(agentId === "" ? [] : [`a:${agentId}`]), ...(userId === "" ? [] : [`u:${userId}`])]
}

/** The shortest list that has everything that the query wants. */
function ownerOf({ agentId, userId }: SessionQuery): string {
  if (userId !== undefined && userId !== "") return `u:${userId}`
  return agentId !== undefined && agentId !== "" ? `a:${agentId}` : ""
}

function shardOf(era: string): number {
  return Number.parseInt(era.slice(0, 4), 16) % EXPIRY_SHARDS
}
