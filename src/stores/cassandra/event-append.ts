/** Appends of many callers to one stream by one conditional batch: decide in order against the tip, write, or look again. */
import { randomUUID } from "node:crypto"
import { decideAppend } from "../../domain/event/decide-append.ts"
import type { Append, Appended } from "../../domain/event/event-model.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Outcome } from "../group-commit.ts"
import {
  ANSWER_MS,
  ANSWER_TTL_S,
  type AnswerRow,
  type NewAnswer,
  type Repeatable,
  Repetitions,
  requestKeys,
} from "./answers.ts"
import type { Cluster, Statement } from "./database.ts"
import { isUnknown, storeUnavailable } from "./errors.ts"
import type { FeedLog } from "./event-feed-log.ts"
import type { EventIds } from "./event-ids.ts"
import { type EventRows, insertEvent, type PlacedEvent } from "./event-rows.ts"
import type { Tip, Tips } from "./event-tip.ts"
import { untilApplied } from "./stamp.ts"
import type { StreamNames } from "./stream-names.ts"

/** One caller's batch. */
export interface AppendItem extends Repeatable {
  readonly batch: Append
}

/** What appends need. */
export interface AppendDeps {
  readonly cluster: Cluster
  readonly tips: Tips
  readonly rows: EventRows
  readonly ids: EventIds
  readonly names: StreamNames
  readonly feed: FeedLog
  now(): number
}

/** Names the port's method in kept answers. */
export const APPEND = "appendEvents"
/** Most streams whose tips are remembered. */
const REMEMBERED = 10_000
/** Buckets that are looked through for a kept answer. */
const ANSWER_BUCKETS = 64
/** How often a batch whose outcome is not known is sent again; it can take place but once. */
const SENDS = 3

/** Appends to streams; remembers their tips, which the condition of the next write proves or refutes. */
export class Appender {
  readonly #deps: AppendDeps
  readonly #tips = new Map<string, Tip>()

  constructor(deps: AppendDeps) {
    this.#deps = deps
  }

  /** Runs a group for one stream. */
  run(scope: CallScope, items: readonly AppendItem[]): Promise<readonly Outcome<Appended>[]> {
    return untilApplied(scope, () => this.#attempt(scope, items))
  }

  async #attempt(
    scope: CallScope,
    items: readonly AppendItem[],
  ): Promise<readonly Outcome<Appended>[] | undefined> {
    const { tips } = this.#deps
    const stream = items[0]?.batch.stream ?? ""
    const key = `${scope.tenant}/${stream}`
    const remembered = this.#tips.get(key)
    this.#tips.delete(key)
    // A write that opens a bucket proves nothing about those before it, which may have been erased.
    const known = remembered?.epoch === null && remembered.head > 0n ? undefined : remembered
    const tip = known ?? (await tips.load(scope, stream))
    const now = this.#deps.now()
    const plan = await this.#decide(scope, tip, items, now)
    // What is remembered may be old: good enough to be proved by a write, not to refuse anybody.
    if (known !== undefined && plan.refused) return undefined
    if (plan.placed.length > 0 || plan.answers.length > 0) {
      const written = await this.#write(scope, tip, plan, now)
      if (!written) return undefined
    }
    if (this.#tips.size >= REMEMBERED) this.#tips.clear()
    this.#tips.set(
      key,
      plan.placed.length > 0 || plan.answers.length > 0 ? tips.after(tip, plan.change, now) : tip,
    )
    return plan.outcomes
  }

  async #decide(scope: CallScope, tip: Tip, items: readonly AppendItem[], now: number): Promise<Plan> {
    const [answers, known] = await Promise.all([
      this.#answers(scope, tip, items, now),
      this.#deps.ids.find(
        scope,
        tip,
        items.map(({ batch }) => batch),
      ),
    ])
    const group = new Repetitions<AppendItem, Appended>(items, answers, now, () => APPEND)
    const state = new StreamState(tip, now, known)
    const fresh = group.fresh.map(({ batch }) => state.apply(batch))
    return {
      outcomes: group.outcomes(fresh),
      refused: fresh.some(({ ok }) => !ok),
      placed: state.placed,
      change: state.change(),
      answers: group.answers(fresh, now),
    }
  }

  /** Kept answers of the items' requests, from the newest bucket back to those of a day ago. */
  async #answers(
    scope: CallScope,
    tip: Tip,
    items: readonly AppendItem[],
    now: number,
  ): Promise<readonly AnswerRow[]> {
    const keys = requestKeys(items, () => APPEND)
    const found: AnswerRow[] = []
    if (keys.length === 0) return found
    let opened = tip.openedMs
    let bucket = tip.bucket
    for (let looked = 0; bucket >= 0n && looked < ANSWER_BUCKETS; looked++, bucket--) {
      const rows = await this.#deps.cluster.read<AnswerRow>(scope, {
        cql: `select request, body_hash, result, expires_at from events
          where tenant = ? and stream = ? and bucket = ? and kind = 1 and revision = 0 and request in ?`,
        values: [scope.tenant, tip.stream, bucket, keys],
      })
      found.push(...rows)
      if (bucket === 0n || (opened !== undefined && opened <= now - ANSWER_MS)) break
      opened = await this.#deps.tips.openedMs(scope, tip.stream, bucket - 1n)
    }
    return found
  }

  /** Whether the plan took place. */
  async #write(scope: CallScope, tip: Tip, plan: Plan, now: number): Promise<boolean> {
    const attempt = randomUUID()
    await this.#announce(scope, tip, plan, attempt)
    const rows = [
      ...plan.placed.map((event) => insertEvent(scope.tenant, tip.stream, tip.bucket, attempt, event)),
      ...plan.answers.map((answer) => insertAnswer(scope.tenant, tip, answer)),
    ]
    let doubt: unknown
    for (let send = 0; send < SENDS; send++) {
      try {
        const { applied } = await this.#deps.tips.write(scope, tip, plan.change, rows, now)
        // Somebody was faster; where an answer was lost that may have been ourselves.
        return applied || (doubt !== undefined && (await this.#isOurs(scope, tip, plan, attempt)))
      } catch (error) {
        // A batch in doubt may still take place after a later one was refused.
        if (!isUnknown(error)) throw doubt ?? error
        doubt = error
        const took = this.#tookPlace(scope, tip, plan, attempt)
        if (
          await took.catch(() => {
            throw error
          })
        )
          return true
      }
    }
    throw doubt
  }

  /** Whether it is seen to have; otherwise it may still. */
  async #tookPlace(scope: CallScope, tip: Tip, plan: Plan, attempt: string): Promise<boolean> {
    // A serial read decides what has reached the servers.
    const found = await this.#deps.tips.load(scope, tip.stream, true)
    return found.head > tip.head && this.#isOurs(scope, tip, plan, attempt)
  }

  async #isOurs(scope: CallScope, tip: Tip, { placed }: Plan, attempt: string): Promise<boolean> {
    // A write of answers only may take place twice.
    if (placed.length === 0) return false
    const found = await this.#deps.rows.at(scope, tip.stream, tip.head + 1n)
    return found?.attempt === attempt
  }

  /** What must be there before the events are. None of it changes the stream, so an unknown outcome is no harm. */
  async #announce(scope: CallScope, tip: Tip, { placed }: Plan, attempt: string): Promise<void> {
    const { tips, ids, names, feed } = this.#deps
    const entry = { stream: tip.stream, first: tip.head + 1n, events: placed.length, attempt }
    try {
      await Promise.all([
        tips.announce(scope, tip),
        tip.head === 0n ? names.add(scope, tip.stream) : undefined,
        ids.announce(scope, tip.stream, placed),
        placed.length > 0 ? feed.enter(scope, entry) : undefined,
      ])
    } catch (error) {
      throw isUnknown(error) ? storeUnavailable(error) : error
    }
  }
}

interface Plan {
  readonly outcomes: readonly Outcome<Appended>[]
  /** Whether any item was refused. */
  readonly refused: boolean
  readonly placed: readonly PlacedEvent[]
  readonly change: Partial<Tip>
  readonly answers: readonly NewAnswer[]
}

function insertAnswer(tenant: string, tip: Tip, answer: NewAnswer): Statement {
  return {
    cql: `insert into events (tenant, stream, bucket, kind, revision, request, body_hash, result, expires_at)
      values (?, ?, ?, 1, 0, ?, ?, ?, ?) using ttl ${ANSWER_TTL_S}`,
    values: [
      tenant,
      tip.stream,
      tip.bucket,
      answer.request,
      answer.bodyHash,
      answer.result,
      answer.expiresAt,
    ],
  }
}

/** Where an event id is. */
export interface KnownEvent {
  readonly revision: bigint
  readonly recordedMs: number
}

/** The stream as it changes from item to item. */
class StreamState {
  readonly placed: PlacedEvent[] = []
  readonly #tip: Tip
  readonly #now: number
  readonly #ids: Map<string, KnownEvent>
  #head: bigint
  #recordedMs: number

  constructor(tip: Tip, now: number, known: ReadonlyMap<string, KnownEvent>) {
    this.#tip = tip
    this.#now = now
    this.#ids = new Map(known)
    this.#head = tip.head
    this.#recordedMs = tip.recordedMs
  }

  apply(batch: Append): Outcome<Appended> {
    const eventIds = batch.events.map(({ eventId }) => eventId)
    try {
      const decision = decideAppend(batch, {
        head: this.#head,
        deleted: this.#tip.deletedMs !== undefined,
        revisionOf: (id) => this.#ids.get(id)?.revision,
      })
      const repeated = decision.kind === "repeated"
      const first = repeated ? decision.first : this.#head + 1n
      if (!repeated) this.#place(batch)
      const original = this.#ids.get(eventIds[0] ?? "")
      return {
        ok: true,
        value: {
          firstRevision: first,
          lastRevision: first + BigInt(batch.events.length) - 1n,
          eventIds,
          recordedMs: original?.recordedMs ?? this.#recordedMs,
          repeated,
        },
      }
    } catch (error) {
      return { ok: false, error }
    }
  }

  change(): Partial<Tip> {
    if (this.placed.length === 0) return {}
    return {
      head: this.#head,
      recordedMs: this.#recordedMs,
      createdMs: this.#tip.head === 0n ? this.#recordedMs : this.#tip.createdMs,
    }
  }

  #place(batch: Append): void {
    this.#recordedMs = Math.max(this.#recordedMs, this.#now)
    for (const event of batch.events) {
      this.#head++
      const place = { revision: this.#head, recordedMs: this.#recordedMs }
      this.#ids.set(event.eventId, place)
      this.placed.push({ ...place, event })
    }
  }
}
