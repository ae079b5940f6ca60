/** AuditService. */
import { create, toBinary } from "@bufbuild/protobuf"
import { type AuditExportFormat as DomainFormat, exportAudit } from "../domain/event/audit-export.ts"
import type { AuditPosition, AuditStore, AuditPeriod as DomainPeriod } from "../domain/event/audit-ports.ts"
import { verifyAudit } from "../domain/event/audit-verify.ts"
import { type Clock, systemClock } from "../domain/kernel/clock.ts"
import { invalidField } from "../domain/kernel/errors.ts"
import {
  AuditExportFormat,
  AuditPeriod,
  AuditQuerySchema,
  AuditService as AuditServiceDescriptor,
} from "../gen/keelplane/v1/audit_service_pb.ts"
import { type Service, service } from "../rpc/handler.ts"
import { entryOf, hex, queryOf, recordMessage, summaryMessage, verdictMessage } from "./audit-messages.ts"
import type { Pages } from "./paging.ts"

const PAGE = { defaultSize: 100, maxSize: 1_000 }
const DEFAULT_TOP = 10
const DAYS_MAX = 400
const BUCKETS_MAX = 2_000
const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const DEFAULT_RANGE_MS = 30 * DAY_MS

/** What {@link createAuditService} needs. */
export interface AuditServiceDeps {
  readonly audit: AuditStore
  readonly pages: Pages
  /** For "until now". Default: the machine's clock. */
  readonly clock?: Clock | undefined
}

/** AuditService over a log. */
export function createAuditService({ audit, pages, clock = systemClock }: AuditServiceDeps): Service {
  return service(AuditServiceDescriptor, {
    recordAudit: async (req, ctx) => {
      const entries = req.records.map((record, i) => entryOf(record, `records[${i}]`))
      const receipts = await audit.record(ctx, entries)
      return {
        receipts: receipts.map(({ id, day, sequence, hash }) => ({
          recordId: id,
          day,
          sequence,
          hash: hex(hash),
        })),
      }
    },
    queryAudit: async (req, ctx) => {
      const page = await audit.query(ctx, queryOf(req.query), pages.request(ctx, req, PAGE))
      return { records: page.items.map(recordMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    summarizeAudit: async (req, ctx) => {
      const query = queryOf(req.query)
      const endMs = query.endMs ?? clock.now()
      const startMs = query.startMs ?? Math.max(0, endMs - DEFAULT_RANGE_MS)
      const period = periodOf(req.period)
      requireFewBuckets(startMs, endMs, period)
      const top = req.top === 0 ? DEFAULT_TOP : req.top
      const summary = await audit.summarize(ctx, { ...query, startMs, endMs }, period, top)
      return summaryMessage(summary, startMs, endMs)
    },
    verifyAudit: async (req, ctx) => {
      const startDay = dayOf(req.startDay, "start_day")
      const endDay = dayOf(req.endDay, "end_day")
      // An empty range would be found intact.
      if (startDay !== undefined && endDay !== undefined && startDay > endDay) {
        throw invalidField("end_day", "must not lie before start_day")
      }
      const maxDays = req.maxDays === 0 ? DAYS_MAX : req.maxDays
      return verdictMessage(await verifyAudit(ctx, audit, { startDay, endDay, maxDays }))
    },
    async *exportAudit(req, ctx) {
      const format: DomainFormat = req.format === AuditExportFormat.CSV ? "csv" : "json_lines"
      // The token holds for the same question in the same format only.
      const question = toBinary(AuditQuerySchema, req.query ?? create(AuditQuerySchema))
      const kind = `audit:${format}:${Buffer.from(question).toString("base64url")}`
      const after = req.resumeToken === "" ? undefined : positionOf(pages.open(ctx, kind, req.resumeToken))
      for await (const chunk of exportAudit(ctx, audit, queryOf(req.query), format, after)) {
        const { data, records, position } = chunk
        const cursor = position === undefined ? undefined : [position.day, position.sequence.toString()]
        yield {
          data: new Uint8Array(data),
          records,
          resumeToken: cursor === undefined ? "" : pages.seal(ctx, kind, cursor),
        }
      }
    },
  })
}

function positionOf([day = "", sequence = "0"]: readonly string[]): AuditPosition {
  return { day, sequence: BigInt(sequence) }
}

function periodOf(period: AuditPeriod): DomainPeriod {
  if (period === AuditPeriod.HOUR) return "hour"
  return period === AuditPeriod.MONTH ? "month" : "day"
}

function requireFewBuckets(startMs: number, endMs: number, period: DomainPeriod): void {
  const width = { hour: HOUR_MS, day: DAY_MS, month: 28 * DAY_MS }[period]
  if ((endMs - startMs) / width <= BUCKETS_MAX) return
  throw invalidField(
    "query.start_time",
    `the range has more than ${BUCKETS_MAX} periods; take a wider period`,
  )
}

// The proto's pattern lets 2026-02-31 through.
function dayOf(text: string, field: string): string | undefined {
  if (text === "") return undefined
  const ms = Date.parse(`${text}T00:00:00Z`)
  if (Number.isNaN(ms) || new Date(ms).toISOString().slice(0, 10) !== text || text < "0001") {
    throw invalidField(field, "is not a day of the calendar")
  }
  return text
}
