/**
 * The order of a tenant's events: a log of what writers are about to append. An entry comes before its events and counts when
 * they are there, so that an event that can be read has its place already, whoever dies in between.
 */
import type { CallScope } from "../../domain/kernel/scope.ts"
import { createGroupCommit, type GroupCommit, type Outcome } from "../group-commit.ts"
import type { Cluster, Statement } from "./database.ts"
import { isUnknown } from "./errors.ts"
import { untilApplied } from "./stamp.ts"

/** Entries in a bucket, for ever. */
const BUCKET_ENTRIES = 10_000n
const GROUP_ENTRIES = 256
/** Tenants that may be written for at once. */
const CONCURRENCY = 64
const REMEMBERED = 10_000

/** What somebody is about to append. */
export interface FeedEntry {
  readonly stream: string
  readonly first: bigint
  readonly events: number
  readonly attempt: string
}

/** An entry in its place. */
export interface PlacedEntry extends FeedEntry {
  readonly position: bigint
  readonly enteredMs: number
  /** Known never to count. */
  readonly void: boolean
}

interface EntryRow {
  readonly position: bigint
  readonly stream: string
  readonly first_revision: bigint
  readonly events: number
  readonly attempt: { toString(): string }
  readonly entered_ms: bigint
  readonly void: boolean | null
}

/** See the file's comment. */
export class FeedLog {
  readonly #cluster: Cluster
  readonly #groups: GroupCommit<FeedEntry, bigint>
  /** Heads as this daemon last saw them. */
  readonly #heads = new Map<string, bigint>()

  constructor(cluster: Cluster) {
    this.#cluster = cluster
    this.#groups = createGroupCommit<FeedEntry, bigint>({
      key: (scope) => scope.tenant,
      maxItems: GROUP_ENTRIES,
      maxBytes: Number.MAX_SAFE_INTEGER,
      bytes: () => 1,
      concurrency: CONCURRENCY,
      run: (scope, entries) => this.#enter(scope, entries),
    })
  }

  /** Gives an entry its place at the end, and answers it. */
  enter(scope: CallScope, entry: FeedEntry): Promise<bigint> {
    return this.#groups.add(scope, entry)
  }

  /** The last entry's position; 0 for none. */
  async head(scope: CallScope, serial = false): Promise<bigint> {
    const [row] = await this.#cluster.read<{ bucket: bigint }>(scope, {
      cql: "select bucket from log_buckets where tenant = ? and log = 'feed'",
      values: [scope.tenant],
    })
    for (let bucket = row?.bucket ?? 0n; bucket >= 0n; bucket--) {
      let head = await this.#headOf(scope, bucket, serial)
      if (head === undefined) continue
      // The newest bucket that is known may have one after it, where a tenant of the same name was erased.
      for (let next = bucket + 1n; head === next * BUCKET_ENTRIES; next++) {
        const after = await this.#headOf(scope, next, serial)
        if (after === undefined) break
        head = after
      }
      return head
    }
    return 0n
  }

  async #headOf(scope: CallScope, bucket: bigint, serial: boolean): Promise<bigint | undefined> {
    const [found] = await this.#cluster.read<{ head: bigint | null }>(
      scope,
      {
        cql: "select distinct tenant, bucket, head from feed where tenant = ? and bucket = ?",
        values: [scope.tenant, bucket],
      },
      { serial },
    )
    return found?.head ?? undefined
  }

  /** Entries from a position on, at most `limit`. */
  async read(scope: CallScope, from: bigint, limit: number, serial = false): Promise<readonly PlacedEntry[]> {
    const entries: PlacedEntry[] = []
    for (let bucket = (from - 1n) / BUCKET_ENTRIES; entries.length < limit; bucket++) {
      const rows = await this.#cluster.read<EntryRow>(
        scope,
        {
          cql: `select position, stream, first_revision, events, attempt, entered_ms, void from feed
            where tenant = ? and bucket = ? and position >= ? limit ?`,
          values: [scope.tenant, bucket, from, limit - entries.length],
        },
        { serial },
      )
      entries.push(...rows.map(entryOf))
      // Only a bucket that is full has one after it.
      if ((entries.at(-1)?.position ?? 0n) < (bucket + 1n) * BUCKET_ENTRIES) break
    }
    return entries
  }

  /** Notes that an entry will never count. */
  async avoid(scope: CallScope, { position, attempt }: PlacedEntry): Promise<void> {
    await this.#cluster.cas(scope, [
      {
        cql: "update feed set void = true where tenant = ? and bucket = ? and position = ? if attempt = ?",
        values: [scope.tenant, (position - 1n) / BUCKET_ENTRIES, position, attempt],
      },
    ])
  }

  async #enter(scope: CallScope, entries: readonly FeedEntry[]): Promise<readonly Outcome<bigint>[]> {
    const outcomes: Outcome<bigint>[] = []
    while (outcomes.length < entries.length) {
      const left = entries.slice(outcomes.length)
      const doubts: Doubt[] = []
      const [first, placed] = await untilApplied(scope, () => this.#attempt(scope, left, doubts))
      for (let at = 0; at < placed; at++) outcomes.push({ ok: true, value: first + BigInt(at) })
    }
    return outcomes
  }

  /** The first position and how many entries were placed; undefined where somebody else was faster. */
  async #attempt(
    scope: CallScope,
    entries: readonly FeedEntry[],
    doubts: Doubt[],
  ): Promise<readonly [bigint, number] | undefined> {
    const { tenant } = scope
    // A write that was not answered may have taken place; only where it did not may the same be written again.
    const placed = await this.#resolve(scope, entries, doubts)
    if (placed !== undefined) return placed
    const known = this.#heads.get(tenant)
    // What opens a bucket proves nothing about those before it, which may have been erased.
    const head = known === undefined || known % BUCKET_ENTRIES === 0n ? await this.head(scope) : known
    const bucket = head / BUCKET_ENTRIES
    const room = Number((bucket + 1n) * BUCKET_ENTRIES - head)
    const now = entries.slice(0, room)
    if (head > 0n && head % BUCKET_ENTRIES === 0n) {
      await this.#cluster.write(scope, {
        cql: "insert into log_buckets (tenant, log, bucket) values (?, 'feed', ?) using timestamp ?",
        values: [tenant, bucket, bucket],
      })
    }
    const after = head + BigInt(now.length)
    this.#heads.delete(tenant)
    const doubt = { first: head + 1n, count: now.length }
    try {
      if (!(await this.#write(scope, bucket, head, now))) return undefined
    } catch (error) {
      if (!isUnknown(error)) throw error
      doubts.push(doubt)
      return undefined
    }
    if (this.#heads.size >= REMEMBERED) this.#heads.clear()
    this.#heads.set(tenant, after)
    return [head + 1n, now.length]
  }

  async #write(
    scope: CallScope,
    bucket: bigint,
    head: bigint,
    entries: readonly FeedEntry[],
  ): Promise<boolean> {
    const opening = head % BUCKET_ENTRIES === 0n
    const update: Statement = {
      cql: "update feed using ttl 0 set head = ? where tenant = ? and bucket = ? if head = ?",
      values: [head + BigInt(entries.length), scope.tenant, bucket, opening ? null : head],
    }
    const rows = entries.map((entry, at) => insertEntry(scope.tenant, bucket, head + 1n + BigInt(at), entry))
    return (await this.#cluster.cas(scope, [update, ...rows])).applied
  }

  /** Where one of the writes in doubt has put the entries. */
  async #resolve(
    scope: CallScope,
    entries: readonly FeedEntry[],
    doubts: readonly Doubt[],
  ): Promise<readonly [bigint, number] | undefined> {
    for (const { first, count } of doubts) {
      const [found] = await this.read(scope, first, 1, true)
      if (found !== undefined && found.attempt === entries[0]?.attempt) return [first, count]
    }
    return undefined
  }
}

/** A write that was sent and not answered. */
interface Doubt {
  readonly first: bigint
  readonly count: number
}

function insertEntry(tenant: string, bucket: bigint, position: bigint, entry: FeedEntry): Statement {
  return {
    cql: `insert into feed (tenant, bucket, position, stream, first_revision, events, attempt, entered_ms)
      values (?, ?, ?, ?, ?, ?, ?, ?)`,
    values: [
      tenant,
      bucket,
      position,
      entry.stream,
      entry.first,
      entry.events,
      entry.attempt,
      // By the machine's clock: only to guess whether a writer is still there.
      BigInt(Date.now()),
    ],
  }
}

function entryOf(row: EntryRow): PlacedEntry {
  return {
    position: row.position,
    stream: row.stream,
    first: row.first_revision,
    events: row.events,
    attempt: row.attempt.toString(),
    enteredMs: Number(row.entered_ms),
    void: row.void === true,
  }
}
