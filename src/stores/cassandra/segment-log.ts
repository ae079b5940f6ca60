/**
 * A tenant's append-only log, in segments: partitions that are sealed when the next one begins. Rows and the head of a
 * segment are written by one conditional batch, so that nothing is lost, numbered twice or forked by racing daemons. What
 * makes rows findable is written after them; the head says up to which row that is done, and whoever comes next makes up
 * for a daemon that died in between.
 */
import type { Clock } from "../../domain/kernel/clock.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import { createGroupCommit, type GroupCommit, type Outcome } from "../group-commit.ts"
import { ANSWER_MS, type AnswerRow, type Repeatable, Repetitions, requestKeys } from "./answers.ts"
import type { Cluster } from "./database.ts"
import { type LogHead, type LogRow, type LogTable, ROOT, SegmentRows } from "./segment-rows.ts"
import { nextStamp, settle, untilApplied } from "./stamp.ts"

/** What differs between logs. */
export interface LogPolicy<I extends Repeatable, R> {
  /** Names the port's method; part of the key of kept answers. */
  operation(item: I): string
  /** Bytes of an item, roughly. */
  bytes(item: I): number
  /** The segment to write to, not before the head's; another one seals the head's. */
  segmentFor(head: LogHead, now: number): string
  /** How a new segment begins after another. */
  opening(before: LogHead, segment: string): Pick<LogHead, "last" | "meta">
  /** Decides every item in order; an item's refusal is its outcome. */
  decide(scope: CallScope, head: LogHead, items: readonly I[], now: number): Promise<LogPlan<R>>
  /** Makes rows findable. Runs at least once for each row and may run again, also after later rows. */
  index(scope: CallScope, head: LogHead, rows: readonly LogRow[]): Promise<void>
  /** Whether the head is told at once that rows are findable, not only with the next write. */
  readonly confirms: boolean
}

/** What a group of items comes to. */
export interface LogPlan<R> {
  readonly outcomes: readonly Outcome<R>[]
  readonly rows: readonly LogRow[]
  readonly meta: string
}

/** What a {@link SegmentLog} is made of. */
export interface SegmentLogOptions<I extends Repeatable, R> {
  readonly cql: Cluster
  readonly clock: Clock
  readonly table: LogTable
  readonly policy: LogPolicy<I, R>
  /** Most items in one batch. */
  readonly maxItems: number
  /** Tenants that may be written for at once. */
  readonly concurrency: number
}

/** Batches stay well below what a commit log segment takes. */
const GROUP_BYTES = 1_048_576
/** Most tenants whose heads are remembered. */
const REMEMBERED = 10_000
/** Segments that are looked through for a kept answer; more begin in a day only where somebody writes without pause. */
const ANSWER_SEGMENTS = 64

/** See the head of this file. */
export class SegmentLog<I extends Repeatable, R> {
  readonly rows: SegmentRows
  readonly #options: SegmentLogOptions<I, R>
  readonly #groups: GroupCommit<I, R>
  /** Heads as this daemon left them, with all rows findable; the next write goes out without a look. */
  readonly #heads = new Map<string, LogHead>()

  constructor(options: SegmentLogOptions<I, R>) {
    const { cql, table, policy, maxItems, concurrency } = options
    this.#options = options
    this.rows = new SegmentRows(cql, table)
    this.#groups = createGroupCommit({
      key: (scope) => scope.tenant,
      maxItems,
      maxBytes: GROUP_BYTES,
      bytes: (item) => policy.bytes(item),
      concurrency,
      run: (scope, items) => this.#run(scope, items),
    })
  }

  /** Appends what the item comes to, with those of other callers. Rejects like a GroupCommit and the item's own refusals. */
  append(scope: CallScope, item: I): Promise<R> {
    return this.#groups.add(scope, item)
  }

  /** Makes findable what a daemon that died has left. Answers how many rows those were. */
  async repair(scope: CallScope): Promise<number> {
    const head = await this.rows.newest(scope, true)
    if (head === undefined || head.indexed >= head.last) return 0
    const missing = head.last - head.indexed
    const indexed = await this.#index(scope, head)
    if (this.#options.policy.confirms) await this.#confirm(scope, indexed)
    return Number(missing)
  }

  async #run(scope: CallScope, items: readonly I[]): Promise<readonly Outcome<R>[]> {
    try {
      return await untilApplied(scope, () => this.#attempt(scope, items))
    } catch (error) {
      this.#heads.delete(scope.tenant)
      throw error
    }
  }

  /** Undefined when another daemon was faster. */
  async #attempt(scope: CallScope, items: readonly I[]): Promise<readonly Outcome<R>[] | undefined> {
    const { policy, clock } = this.#options
    const now = clock.now()
    const head = await this.#open(scope, now)
    if (head === undefined) return undefined
    const repeated = new Repetitions<I, R>(items, await this.#answers(scope, items, now), now, (item) =>
      policy.operation(item),
    )
    const plan =
      repeated.fresh.length === 0
        ? { outcomes: [], rows: [], meta: head.meta }
        : await policy.decide(scope, head, repeated.fresh, now)
    const answers = repeated.answers(plan.outcomes, now)
    if (plan.rows.length === 0 && answers.length === 0) return repeated.outcomes(plan.outcomes)
    const last = plan.rows.at(-1)?.seq ?? head.last
    const after: LogHead = { ...head, ...nextStamp(head), last, meta: plan.meta }
    const fate = await settle(
      { expected: head.version, version: after.version ?? "" },
      () => this.rows.write(scope, head, after, plan.rows, answers),
      () => this.rows.head(scope, head.segment, true),
    )
    if (fate === "lost") {
      this.#heads.delete(scope.tenant)
      return undefined
    }
    await this.#finish(scope, after, plan.rows)
    return repeated.outcomes(plan.outcomes)
  }

  /** The head of the segment to write to, with everything before it findable. Undefined when another daemon was faster. */
  async #open(scope: CallScope, now: number): Promise<LogHead | undefined> {
    const { policy } = this.#options
    const known = this.#heads.get(scope.tenant)
    let head = known ?? (await this.rows.newest(scope, true)) ?? (await this.rows.root(scope))
    if (head.indexed < head.last) head = await this.#index(scope, head)
    const segment = head.next ?? policy.segmentFor(head, now)
    if (segment === head.segment) return head
    this.#heads.delete(scope.tenant)
    return this.#roll(scope, head, segment, now)
  }

  async #roll(scope: CallScope, head: LogHead, segment: string, now: number): Promise<LogHead | undefined> {
    if (head.next === null) {
      const sealed: LogHead = { ...head, ...nextStamp(head), next: segment }
      if (!(await this.#change(scope, head, sealed))) return undefined
    }
    await this.rows.register(scope, segment, now)
    const empty: LogHead = {
      ...ROOT,
      ...this.#options.policy.opening(head, segment),
      segment,
      openedMs: now,
    }
    const opened: LogHead = { ...empty, ...nextStamp(undefined), indexed: empty.last }
    if (!(await this.#change(scope, empty, opened))) return undefined
    return opened
  }

  async #change(scope: CallScope, before: LogHead, after: LogHead): Promise<boolean> {
    const fate = await settle(
      { expected: before.version, version: after.version ?? "" },
      () => this.rows.write(scope, before, after, [], []),
      () => this.rows.head(scope, before.segment, true),
    )
    return fate === "applied"
  }

  async #index(scope: CallScope, head: LogHead): Promise<LogHead> {
    let { indexed } = head
    while (indexed < head.last) {
      const rows = await this.rows.read(scope, head.segment, indexed, INDEX_ROWS)
      const last = rows.at(-1)
      if (last === undefined) break
      await this.#options.policy.index(scope, head, rows)
      indexed = last.seq
    }
    return { ...head, indexed: head.last }
  }

  /**
   * After the rows are durable. The callers have what they asked for, so that a failure here is nobody's: the rows are read
   * from the log itself until the next write, or a repair, has made up for it.
   */
  async #finish(scope: CallScope, head: LogHead, rows: readonly LogRow[]): Promise<void> {
    this.#heads.delete(scope.tenant)
    try {
      await this.#options.policy.index(scope, head, rows)
      const indexed = { ...head, indexed: head.last }
      this.#remember(scope, this.#options.policy.confirms ? await this.#confirm(scope, indexed) : indexed)
    } catch {
      // Said above.
    }
  }

  async #confirm(scope: CallScope, head: LogHead): Promise<LogHead | undefined> {
    const after: LogHead = { ...head, ...nextStamp(head) }
    return (await this.#change(scope, head, after)) ? after : undefined
  }

  #remember(scope: CallScope, head: LogHead | undefined): void {
    if (head === undefined) return
    if (this.#heads.size >= REMEMBERED) {
      const [oldest] = this.#heads.keys()
      if (oldest !== undefined) this.#heads.delete(oldest)
    }
    this.#heads.set(scope.tenant, head)
  }

  /** Kept answers of these items, from every segment of the last day. */
  async #answers(scope: CallScope, items: readonly I[], now: number): Promise<readonly AnswerRow[]> {
    const keys = requestKeys(items, (item) => this.#options.policy.operation(item))
    if (keys.length === 0) return []
    const segments: string[] = []
    for (const { segment, openedMs } of await this.rows.segments(scope, {
      newestFirst: true,
      limit: ANSWER_SEGMENTS,
    })) {
      segments.push(segment)
      if (openedMs <= now - ANSWER_MS) break
    }
    const found = await Promise.all(segments.map((segment) => this.rows.answers(scope, segment, keys)))
    return found.flat()
  }
}

const INDEX_ROWS = 500
