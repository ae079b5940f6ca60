/**
 * A stream's newest bucket: its static columns are the stream. Everything that changes a stream does so there, on the condition
 * that nobody else has: `epoch` counts the writes. The bucket follows from the head alone, so that all writers meet in the same one.
 */
import { categoryOf, type StreamInfo } from "../../domain/event/event-model.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Applied, Cluster, Statement } from "./database.ts"

/** Events in a bucket, for ever: where an event is follows from this. A batch stays in the bucket of its first event. */
export const BUCKET_EVENTS = 4_096
/** Most events in one batch, by which a bucket may be longer. */
export const MAX_BATCH_EVENTS = 256

/** A stream as a writer needs it. */
export interface Tip {
  readonly stream: string
  /** Revision of the last event; 0 where there never was one. */
  readonly head: bigint
  /** Revision of the oldest event that can be read. */
  readonly first: bigint
  readonly createdMs: number
  readonly recordedMs: number
  readonly deletedMs: number | undefined
  /** The bucket of the next event. */
  readonly bucket: bigint
  /** How often that bucket's static columns were written; null: never. */
  readonly epoch: bigint | null
  /** When it was opened; undefined where it was not. */
  readonly openedMs: number | undefined
}

/** How buckets are cut; tests take small ones. */
export class Buckets {
  readonly #size: bigint

  constructor(size: number = BUCKET_EVENTS) {
    if (size < MAX_BATCH_EVENTS) throw new RangeError("a bucket must have room for a batch")
    this.#size = BigInt(size)
  }

  /** Where the event after `head` goes. */
  after(head: bigint): bigint {
    return head / this.#size
  }

  /** The buckets that may have the events of a range, oldest first. */
  of(from: bigint, to: bigint): readonly bigint[] {
    const start = from < 1n ? 0n : from - 1n
    // A batch that began in the bucket before may reach into this one's numbers.
    const reached = start % this.#size < BigInt(MAX_BATCH_EVENTS)
    let bucket = start / this.#size
    if (reached && bucket > 0n) bucket--
    const buckets: bigint[] = []
    for (const last = (to < 1n ? 0n : to - 1n) / this.#size; bucket <= last; bucket++) buckets.push(bucket)
    return buckets
  }
}

interface TipRow {
  readonly head: bigint | null
  readonly epoch: bigint | null
  readonly first_revision: bigint | null
  readonly created_ms: bigint | null
  readonly recorded_head: bigint | null
  readonly deleted_ms: bigint | null
  readonly opened_ms: bigint | null
}

/** Reads and writes tips. */
export class Tips {
  readonly buckets: Buckets
  readonly #cluster: Cluster

  constructor(cluster: Cluster, buckets: Buckets) {
    this.#cluster = cluster
    this.buckets = buckets
  }

  /** The tip of a stream, also of one that does not exist. `serial` decides first what is under way. */
  async load(scope: CallScope, stream: string, serial = false): Promise<Tip> {
    const [hint, first] = await Promise.all([this.#hint(scope, stream), this.#row(scope, stream, 0n, serial)])
    if (hint === 0n) return this.#tip(stream, 0n, first, undefined)
    const [own, before] = await Promise.all([
      this.#row(scope, stream, hint, serial),
      this.#row(scope, stream, hint - 1n, serial),
    ])
    // The newest bucket that is known may only be about to be opened.
    return own?.head == null
      ? this.#tip(stream, hint - 1n, before, own)
      : this.#tip(stream, hint, own, undefined)
  }

  #tip(stream: string, bucket: bigint, row: TipRow | undefined, next: TipRow | undefined): Tip {
    const head = row?.head ?? 0n
    const place = this.buckets.after(head)
    const own = place === bucket ? row : next
    return {
      stream,
      head,
      first: row?.first_revision ?? 1n,
      createdMs: Number(row?.created_ms ?? 0n),
      recordedMs: Number(row?.recorded_head ?? 0n),
      deletedMs: row?.deleted_ms == null ? undefined : Number(row.deleted_ms),
      bucket: place,
      epoch: own?.epoch ?? null,
      openedMs: own?.opened_ms == null ? undefined : Number(own.opened_ms),
    }
  }

  async #hint(scope: CallScope, stream: string): Promise<bigint> {
    const [row] = await this.#cluster.read<{ bucket: bigint }>(scope, {
      cql: "select bucket from log_buckets where tenant = ? and log = ?",
      values: [scope.tenant, `s:${stream}`],
    })
    return row?.bucket ?? 0n
  }

  async #row(scope: CallScope, stream: string, bucket: bigint, serial: boolean): Promise<TipRow | undefined> {
    const [row] = await this.#cluster.read<TipRow>(
      scope,
      {
        cql: `select distinct tenant, stream, bucket, head, epoch, first_revision, created_ms, recorded_head, deleted_ms, opened_ms
          from events where tenant = ? and stream = ? and bucket = ?`,
        values: [scope.tenant, stream, bucket],
      },
      { serial },
    )
    return row
  }

  /** When a bucket was opened; undefined where it was not. */
  async openedMs(scope: CallScope, stream: string, bucket: bigint): Promise<number | undefined> {
    const row = await this.#row(scope, stream, bucket, false)
    return row?.opened_ms == null ? undefined : Number(row.opened_ms)
  }

  /** What has to be written before a bucket is opened. */
  async announce(scope: CallScope, tip: Tip): Promise<void> {
    if (tip.epoch !== null || tip.bucket === 0n) return
    await this.#cluster.write(scope, {
      cql: "insert into log_buckets (tenant, log, bucket) values (?, ?, ?) using timestamp ?",
      // The largest of a stream's life wins, and a life after the tenant's end over the one before it.
      values: [scope.tenant, `s:${tip.stream}`, tip.bucket, BigInt(tip.createdMs) * 1_000n + tip.bucket],
    })
  }

  /**
   * Changes the stream from `before`, with rows of the same bucket, or nothing where somebody else was faster. Call
   * {@link announce} first.
   */
  write(
    scope: CallScope,
    before: Tip,
    change: Partial<Pick<Tip, "head" | "first" | "createdMs" | "recordedMs" | "deletedMs">>,
    rows: readonly Statement[],
    now: number,
  ): Promise<Applied> {
    const after = { ...before, ...change }
    const head: Statement = {
      // Static columns would otherwise expire with the table's default.
      cql: `update events using ttl 0 set head = ?, epoch = ?, first_revision = ?, created_ms = ?, recorded_head = ?,
          deleted_ms = ?, opened_ms = ? where tenant = ? and stream = ? and bucket = ? if epoch = ?`,
      values: [
        after.head === 0n ? null : after.head,
        (before.epoch ?? 0n) + 1n,
        after.first,
        BigInt(after.createdMs),
        BigInt(after.recordedMs),
        after.deletedMs === undefined ? null : BigInt(after.deletedMs),
        BigInt(before.openedMs ?? now),
        scope.tenant,
        before.stream,
        before.bucket,
        before.epoch,
      ],
    }
    return this.#cluster.cas(scope, [head, ...rows])
  }

  /** The tip as {@link write} leaves it. */
  after(before: Tip, change: Partial<Tip>, now: number): Tip {
    const head = change.head ?? before.head
    const bucket = this.buckets.after(head)
    const same = bucket === before.bucket
    return {
      ...before,
      ...change,
      bucket,
      epoch: same ? (before.epoch ?? 0n) + 1n : null,
      openedMs: same ? (before.openedMs ?? now) : undefined,
    }
  }
}

/** A tip as the domain sees it; undefined where the stream has never had an event. */
export function infoOf(tip: Tip): StreamInfo | undefined {
  if (tip.head === 0n) return undefined
  return {
    stream: tip.stream,
    category: categoryOf(tip.stream),
    head: tip.head,
    first: tip.first,
    createdMs: tip.createdMs,
    recordedMs: tip.recordedMs,
    deletedMs: tip.deletedMs,
  }
}
