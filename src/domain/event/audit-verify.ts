/** Recomputing the hash chain. */
import type { CallScope } from "../kernel/scope.ts"
import { AUDIT_GENESIS, auditHash, sameHash } from "./audit-chain.ts"
import type { AuditDayHead, AuditRecord } from "./audit-model.ts"
import type { AuditStore } from "./audit-ports.ts"

/** What is wrong with a chain. */
export type AuditBreakKind = "altered" | "missing" | "reordered" | "added"

/** The first place where a chain does not hold. */
export interface AuditBreak {
  readonly day: string
  /** 0 for the link to the day before. */
  readonly sequence: bigint
  /** Empty when no record is there. */
  readonly recordId: string
  readonly kind: AuditBreakKind
  readonly description: string
}

/** Which days to check, both inclusive; undefined leaves the range open. */
export interface AuditRange {
  readonly startDay?: string | undefined
  readonly endDay?: string | undefined
  /** Most days in this run. */
  readonly maxDays: number
}

/** What a check found. */
export interface AuditVerdict {
  readonly firstBreak?: AuditBreak | undefined
  /** Oldest first; the last one is not intact when there is a break in it. */
  readonly days: readonly (AuditDayHead & { readonly intact: boolean })[]
  readonly recordsChecked: bigint
  /** Where to go on; absent at the end of the range and after a break. */
  readonly nextStartDay?: string | undefined
}

/** Days are not begun with less than this before the deadline, so that what was found is answered. */
const DEADLINE_MARGIN_MS = 500
const BATCH = 1000

/** Checks the tenant's log. Stops at the first break. Rejects like the store. */
export async function verifyAudit(
  scope: CallScope,
  store: AuditStore,
  range: AuditRange,
): Promise<AuditVerdict> {
  // Before the days: what was there by now must be among them.
  const newest = await store.chainHead(scope)
  const found = await store.days(scope, range.startDay, range.endDay, range.maxDays + 1)
  const checked: (AuditDayHead & { intact: boolean })[] = []
  let recordsChecked = 0n
  let before = await headBefore(scope, store, range.startDay)
  for (const [i, day] of found.entries()) {
    const late = scope.deadlineMs - Date.now() < DEADLINE_MARGIN_MS
    if (i === range.maxDays || (i > 0 && late)) {
      return { days: checked, recordsChecked, nextStartDay: day.day }
    }
    const result = await verifyDay(scope, store, day, before)
    recordsChecked += result.checked
    checked.push({ ...day, intact: result.broken === undefined })
    if (result.broken !== undefined) return { firstBreak: result.broken, days: checked, recordsChecked }
    before = day.head
  }
  return { firstBreak: newestMissing(newest, found, range), days: checked, recordsChecked }
}

async function headBefore(
  scope: CallScope,
  store: AuditStore,
  startDay: string | undefined,
): Promise<Uint8Array> {
  const day = startDay === undefined ? undefined : await store.dayBefore(scope, startDay)
  return day?.head ?? AUDIT_GENESIS
}

function newestMissing(
  newest: Awaited<ReturnType<AuditStore["chainHead"]>>,
  found: readonly AuditDayHead[],
  range: AuditRange,
): AuditBreak | undefined {
  if (newest === undefined || newest.records === 0n) return undefined
  if (range.startDay !== undefined && range.startDay > newest.day) return undefined
  if (range.endDay !== undefined && range.endDay < newest.day) return undefined
  const day = found.find((head) => head.day === newest.day)
  if (day === undefined) return broken(newest.day, 0n, "", "missing", "the newest day is gone")
  if (day.records < newest.records) {
    return broken(newest.day, day.records + 1n, "", "missing", "the newest records are gone")
  }
  if (day.records > newest.records || sameHash(day.head, newest.head)) return undefined
  return broken(
    newest.day,
    day.records,
    "",
    "altered",
    "the head of the newest day is not the one recorded last",
  )
}

interface DayResult {
  readonly checked: bigint
  readonly broken?: AuditBreak | undefined
}

async function verifyDay(
  scope: CallScope,
  store: AuditStore,
  head: AuditDayHead,
  before: Uint8Array,
): Promise<DayResult> {
  const { day } = head
  if (!sameHash(head.prevHash, before)) {
    const description = "the day does not follow the day before it: a day is gone or a head was altered"
    return { checked: 0n, broken: broken(day, 0n, "", "missing", description) }
  }
  if (head.retired) return { checked: 0n }
  let last = before
  let sequence = 0n
  while (sequence < head.records) {
    const batch = await store.chain(scope, day, sequence, BATCH)
    // A record that came after the head was read is not part of this check.
    const records = batch.filter((record) => record.sequence <= head.records)
    if (records.length === 0) break
    for (const record of records) {
      const wrong = await verifyRecord(scope, store, record, sequence + 1n, last)
      if (wrong !== undefined) return { checked: sequence, broken: wrong }
      last = record.hash
      sequence = record.sequence
    }
  }
  return { checked: sequence, broken: await verifyEnd(scope, store, head, sequence, last) }
}

async function verifyRecord(
  scope: CallScope,
  store: AuditStore,
  record: AuditRecord,
  expected: bigint,
  last: Uint8Array,
): Promise<AuditBreak | undefined> {
  const { day, sequence, id, prevHash, hash } = record
  if (sequence !== expected) {
    return broken(day, expected, "", "missing", `the next record found has sequence ${sequence}`)
  }
  const fits = sameHash(auditHash(scope.tenant, record, last), hash)
  if (sameHash(prevHash, last)) {
    return fits ? undefined : broken(day, sequence, id, "altered", "the record does not fit its hash")
  }
  if (fits) return broken(day, sequence, id, "altered", "the record's link to the one before was changed")
  const elsewhere = await store.findHash(scope, day, prevHash)
  if (elsewhere !== undefined) {
    return broken(
      day,
      sequence,
      id,
      "reordered",
      `the record belongs after the one that stands at ${elsewhere}`,
    )
  }
  return broken(day, sequence, id, "missing", "the record before this one is gone")
}

async function verifyEnd(
  scope: CallScope,
  store: AuditStore,
  head: AuditDayHead,
  sequence: bigint,
  last: Uint8Array,
): Promise<AuditBreak | undefined> {
  const { day, records } = head
  if (sequence < records) {
    return broken(day, sequence + 1n, "", "missing", `the day had ${records} records`)
  }
  if (!sameHash(last, head.head)) {
    return broken(day, records, "", "altered", "the last record's hash is not the head of the day")
  }
  if (head.lastSequence <= records) return undefined
  const [extra] = await store.chain(scope, day, records, 1)
  return broken(day, records + 1n, extra?.id ?? "", "added", `the day had ${records} records`)
}

function broken(
  day: string,
  sequence: bigint,
  recordId: string,
  kind: AuditBreakKind,
  description: string,
): AuditBreak {
  return { day, sequence, recordId, kind, description }
}
