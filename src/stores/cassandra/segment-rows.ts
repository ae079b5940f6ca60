/** The tables of a segmented log: its segments with their heads, rows and kept answers, and the list of segments. */
import type { CallScope } from "../../domain/kernel/scope.ts"
import { ANSWER_TTL_S, type AnswerRow, type NewAnswer } from "./answers.ts"
import type { Cluster, Statement } from "./database.ts"
import type { Stamp } from "./stamp.ts"

/** Which tables. */
export interface LogTable {
  /** The segments; the list of them is the table of this name and `_segments`. */
  readonly name: "audit_log" | "config_log"
}

/** Where a segment stands. */
export interface LogHead extends Stamp {
  readonly segment: string
  readonly openedMs: number
  /** The last row's number. */
  readonly last: bigint
  /** Rows up to this one can be found by everything that finds rows. */
  readonly indexed: bigint
  /** The segment that follows, once this one is sealed. */
  readonly next: string | null
  /** The policy's own. */
  readonly meta: string
}

/** A row of a log. */
export interface LogRow {
  readonly seq: bigint
  readonly body: string
}

/** A segment on the list. */
export interface ListedSegment {
  readonly segment: string
  readonly openedMs: number
  /** Its rows are gone, or on their way. */
  readonly retired: boolean
  /** They are gone. */
  readonly cleared: boolean
}

interface SegmentRow {
  readonly segment: string
  readonly opened_at: Date
  readonly retired: RetiredState | null
}

type RetiredState = "begun" | "done"

/** What stands before every tenant's first segment: two daemons that begin a log meet here. */
export const ROOT: LogHead = {
  segment: "",
  version: null,
  recent: null,
  openedMs: 0,
  last: 0n,
  indexed: 0n,
  next: null,
  meta: "",
}

interface HeadRow extends Stamp {
  readonly segment: string
  readonly opened_at: Date | null
  readonly last: bigint | null
  readonly indexed: bigint | null
  readonly next: string | null
  readonly meta: string | null
}

/** Answers are kept before all rows. */
const ANSWER_SEQ = 0n

/** Reads and writes a log's tables. */
export class SegmentRows {
  readonly #cql: Cluster
  readonly #table: string

  constructor(cql: Cluster, { name }: LogTable) {
    this.#cql = cql
    this.#table = name
  }

  /** A segment's head; undefined where it was not opened. `serial` settles what is under way first. */
  async head(scope: CallScope, segment: string, serial: boolean): Promise<LogHead | undefined> {
    const rows = await this.#cql.read<HeadRow>(
      scope,
      {
        cql: `select distinct tenant, segment, version, recent, opened_at, last, indexed, next, meta
          from ${this.#table} where tenant = ? and segment = ?`,
        values: [scope.tenant, segment],
      },
      { serial },
    )
    return headOf(rows[0])
  }

  /** The head of the newest segment that was opened; undefined where there is none. */
  async newest(scope: CallScope, serial: boolean): Promise<LogHead | undefined> {
    // The newest on the list may not be open yet, and is never more than one.
    for (const { segment } of await this.segments(scope, { newestFirst: true, limit: 3 })) {
      const head = await this.head(scope, segment, serial)
      if (head !== undefined) return head
    }
    return undefined
  }

  /** What stands before the first segment. */
  async root(scope: CallScope): Promise<LogHead> {
    return (await this.head(scope, ROOT.segment, true)) ?? ROOT
  }

  /** Segments by name; one that is being opened may be among them. */
  async segments(
    scope: CallScope,
    range: {
      readonly newestFirst: boolean
      readonly limit: number
      /** Both inclusive. */
      readonly from?: string | undefined
      readonly to?: string | undefined
    },
  ): Promise<readonly ListedSegment[]> {
    const { newestFirst, limit, from, to } = range
    const order = newestFirst ? "desc" : "asc"
    const rows = await this.#cql.read<SegmentRow>(scope, {
      cql: `select segment, opened_at, retired from ${this.#table}_segments where tenant = ? and segment >= ? and segment <= ?
        order by segment ${order} limit ?`,
      values: [scope.tenant, from ?? "", to ?? "\u{10ffff}", limit],
    })
    return rows.map((row) => ({
      segment: row.segment,
      openedMs: row.opened_at.getTime(),
      retired: row.retired !== null,
      cleared: row.retired === "done",
    }))
  }

  /** Puts a segment on the list, before it is opened. */
  async register(scope: CallScope, segment: string, now: number): Promise<void> {
    await this.#cql.write(scope, {
      cql: `insert into ${this.#table}_segments (tenant, segment, opened_at) values (?, ?, ?)`,
      values: [scope.tenant, segment, new Date(now)],
    })
  }

  /**
   * Rows of a segment after a number, in their order; those up to `known` are there for certain. A batch may be seen on one node
   * before others have it. Rows have no gaps, so that this shows; a serial read settles it.
   */
  async read(
    scope: CallScope,
    segment: string,
    after: bigint,
    limit: number,
    known = 0n,
  ): Promise<readonly LogRow[]> {
    const from = after < 0n ? 0n : after
    const statement = {
      cql: `select seq, body from ${this.#table} where tenant = ? and segment = ? and seq > ? limit ?`,
      values: [scope.tenant, segment, from, limit],
    }
    const rows = await this.#cql.read<LogRow>(scope, statement)
    const gap = rows.some(({ seq }, at) => seq !== from + BigInt(at + 1))
    const short = rows.length < limit && (rows.at(-1)?.seq ?? from) < known
    return gap || short ? this.#cql.read<LogRow>(scope, statement, { serial: true }) : rows
  }

  /** Rows of a segment by their numbers, in no order. */
  async pick(scope: CallScope, segment: string, seqs: readonly bigint[]): Promise<readonly LogRow[]> {
    return this.#cql.read<LogRow>(scope, {
      cql: `select seq, body from ${this.#table} where tenant = ? and segment = ? and seq in ?`,
      values: [scope.tenant, segment, seqs],
    })
  }

  /** A segment's head together with the number of its last row, 0 for none; undefined where it was not opened. */
  async headAndLast(
    scope: CallScope,
    segment: string,
  ): Promise<{ readonly head: LogHead; readonly lastSeq: bigint } | undefined> {
    for (const serial of [false, true]) {
      const [row] = await this.#cql.read<HeadRow & { readonly seq: bigint | null }>(
        scope,
        {
          cql: `select segment, version, recent, opened_at, last, indexed, next, meta, seq from ${this.#table}
            where tenant = ? and segment = ? order by seq desc limit 1`,
          values: [scope.tenant, segment],
        },
        { serial },
      )
      const head = headOf(row)
      if (serial || (head !== undefined && head.next !== null)) {
        return head && { head, lastSeq: row?.seq ?? 0n }
      }
    }
    return undefined
  }

  /** Says on the list that a segment's rows go, or are gone. */
  async retire(scope: CallScope, segment: string, state: RetiredState): Promise<void> {
    await this.#cql.write(scope, {
      cql: `update ${this.#table}_segments set retired = ? where tenant = ? and segment = ?`,
      values: [state, scope.tenant, segment],
    })
  }

  /** Removes the rows of a sealed segment; its head stays. */
  async clear(scope: CallScope, segment: string): Promise<void> {
    await this.#cql.write(scope, {
      cql: `delete from ${this.#table} where tenant = ? and segment = ? and seq > 0`,
      values: [scope.tenant, segment],
    })
  }

  /** Kept answers in a segment. */
  async answers(scope: CallScope, segment: string, keys: readonly string[]): Promise<readonly AnswerRow[]> {
    return this.#cql.read<AnswerRow>(scope, {
      cql: `select request, body_hash, result, expires_at from ${this.#table}
        where tenant = ? and segment = ? and seq = ? and request in ?`,
      values: [scope.tenant, segment, ANSWER_SEQ, keys],
    })
  }

  /** Rows, answers and the new head, or nothing where the head is not `before` any more. Answers whether it took place. */
  async write(
    scope: CallScope,
    before: LogHead,
    after: LogHead,
    rows: readonly LogRow[],
    answers: readonly NewAnswer[],
  ): Promise<boolean> {
    const { segment } = after
    const head: Statement = {
      cql: `update ${this.#table} using ttl 0 set version = ?, recent = ?, opened_at = ?, last = ?, indexed = ?, next = ?,
        meta = ? where tenant = ? and segment = ? if version = ?`,
      values: [
        after.version,
        after.recent,
        new Date(after.openedMs),
        after.last,
        after.indexed,
        after.next,
        after.meta,
        scope.tenant,
        segment,
        before.version,
      ],
    }
    const inserts = rows.map(({ seq, body }) => ({
      cql: `insert into ${this.#table} (tenant, segment, seq, request, body) values (?, ?, ?, '', ?)`,
      values: [scope.tenant, segment, seq, body],
    }))
    const kept = answers.map(({ request, bodyHash, result, expiresAt }) => ({
      cql: `insert into ${this.#table} (tenant, segment, seq, request, body_hash, result, expires_at)
        values (?, ?, ${ANSWER_SEQ}, ?, ?, ?, ?) using ttl ${ANSWER_TTL_S}`,
      values: [scope.tenant, segment, request, bodyHash, result, expiresAt],
    }))
    return (await this.#cql.cas(scope, [head, ...inserts, ...kept])).applied
  }
}

function headOf(row: HeadRow | undefined): LogHead | undefined {
  if (row === undefined || row.version === null) return undefined
  return {
    segment: row.segment,
    version: row.version,
    recent: row.recent,
    openedMs: row.opened_at?.getTime() ?? 0,
    last: row.last ?? 0n,
    indexed: row.indexed ?? 0n,
    next: row.next,
    meta: row.meta ?? "",
  }
}
