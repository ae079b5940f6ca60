/** How audit records go into their log: hashed one over the other, a segment for each day and for so many records of it. */
import { chainEntries, utcDay } from "../../domain/event/audit-chain.ts"
import type { AuditEntry, AuditReceipt } from "../../domain/event/audit-model.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"
import type { Outcome } from "../group-commit.ts"
import type { Repeatable } from "./answers.ts"
import type { AuditIndex } from "./audit-index.ts"
import { chainMeta, dayOfSegment, metaText, recordOf, rowOf } from "./audit-rows.ts"
import type { Cluster } from "./database.ts"
import type { LogPlan, LogPolicy } from "./segment-log.ts"
import type { LogHead, LogRow } from "./segment-rows.ts"

/** One caller's entries. */
export interface AuditItem extends Repeatable {
  readonly entries: readonly AuditEntry[]
  readonly bytes: number
}

/** The policy of the audit log; `segmentRecords` is after how many records a day goes on in another partition. */
export function auditPolicy(
  cql: Cluster,
  index: AuditIndex,
  segmentRecords: bigint,
): LogPolicy<AuditItem, readonly AuditReceipt[]> {
  return {
    operation: () => "audit.record",
    bytes: ({ bytes }) => bytes,
    segmentFor: (head, now) => segmentFor(head, now, segmentRecords),
    opening: (before, segment) => {
      const meta = chainMeta(before)
      if (dayOfSegment(before.segment) === dayOfSegment(segment)) {
        return { last: before.last, meta: metaText({ ...meta, first: before.last }) }
      }
      return { last: 0n, meta: metaText({ ...meta, prevHash: meta.head, first: 0n }) }
    },
    decide: (scope, head, items, now) => Promise.resolve(decide(scope, head, items, now)),
    index: async (scope, { segment }, rows) => {
      const records = rows.map(recordOf)
      await index.file(scope, segment, records)
      const last = records.at(-1)
      if (last !== undefined) await moveChain(cql, scope, last)
    },
    confirms: false,
  }
}

/** A clock that goes back over midnight must not reopen a day whose head the next day has built upon. */
function segmentFor(head: LogHead, now: number, segmentRecords: bigint): string {
  const day = utcDay(now)
  if (head.segment === "" || day > dayOfSegment(head.segment)) return `${day}/0000`
  if (head.last - chainMeta(head).first < segmentRecords) return head.segment
  const part = Number(head.segment.slice(11)) + 1
  return `${dayOfSegment(head.segment)}/${String(part).padStart(4, "0")}`
}

function decide(
  { tenant }: CallScope,
  head: LogHead,
  items: readonly AuditItem[],
  now: number,
): LogPlan<readonly AuditReceipt[]> {
  const meta = chainMeta(head)
  const from = { day: dayOfSegment(head.segment), records: head.last, head: meta.head }
  const entries = items.flatMap((item) => item.entries)
  const records = chainEntries(tenant, from, entries, now)
  const receipts = records.map(({ id, day, sequence, hash }) => ({ id, day, sequence, hash }))
  let start = 0
  const outcomes = items.map((item): Outcome<readonly AuditReceipt[]> => {
    start += item.entries.length
    return { ok: true, value: receipts.slice(start - item.entries.length, start) }
  })
  const rows: readonly LogRow[] = records.map(rowOf)
  return { outcomes, rows, meta: metaText({ ...meta, head: records.at(-1)?.hash ?? meta.head }) }
}

/** More than a day ever has records. */
const DAY_STEP = 1_000_000_000n
const DAY_MS = 86_400_000

/** Tells the chain's newest head apart from its days. The place in the chain is the timestamp, so that the furthest one stays. */
export async function moveChain(
  cql: Cluster,
  scope: CallScope,
  last: { readonly day: string; readonly sequence: bigint; readonly hash: Uint8Array },
): Promise<void> {
  const place = BigInt(Date.parse(last.day) / DAY_MS) * DAY_STEP + last.sequence
  await cql.write(scope, {
    cql: "insert into audit_chains (tenant, day, records, head) values (?, ?, ?, ?) using timestamp ?",
    values: [scope.tenant, last.day, last.sequence, Buffer.from(last.hash), place],
  })
}
