/** Taking old days out of the audit log: their records go, their heads stay for the chain to hang by. */
import { type CallScope, PLATFORM_TENANT, systemScope, type TenantId } from "../../domain/kernel/scope.ts"
import type { ByTenant } from "../../domain/kernel/tenant-classes.ts"
import type { AuditDays } from "./audit-days.ts"
import type { AuditIndex } from "./audit-index.ts"
import { dayOfSegment, recordOf } from "./audit-rows.ts"
import type { Cluster } from "./database.ts"
import type { ListedSegment, SegmentRows } from "./segment-rows.ts"

const READ_ROWS = 500

/** Removes whole days. A run that ends in the middle is finished by the next. */
export class AuditRetention {
  readonly #cql: Cluster
  readonly #rows: SegmentRows
  readonly #days: AuditDays
  readonly #index: AuditIndex

  constructor(cql: Cluster, rows: SegmentRows, days: AuditDays, index: AuditIndex) {
    this.#cql = cql
    this.#rows = rows
    this.#days = days
    this.#index = index
  }

  /** See AuditStore.retire. */
  async retire(scope: CallScope, before: ByTenant<string>, limit: number): Promise<number> {
    if (scope.tenant !== PLATFORM_TENANT) return this.#retireOf(scope, before.of(scope.tenant), limit)
    let gone = 0
    const tenants = this.#cql.pages<{ tenant: TenantId }>(scope, {
      cql: "select distinct tenant from audit_log_segments",
    })
    for await (const page of tenants) {
      for (const { tenant } of page) {
        if (gone >= limit) return gone
        gone += await this.#retireOf(systemScope(tenant, scope.signal), before.of(tenant), limit - gone)
      }
    }
    return gone
  }

  async #retireOf(scope: CallScope, day: string, limit: number): Promise<number> {
    const days = new Map<string, ListedSegment[]>()
    for await (const each of this.#days.segments(scope, undefined, day)) {
      const own = dayOfSegment(each.segment)
      if (own >= day || (days.size === limit && !days.has(own))) break
      if (!each.cleared) days.set(own, [...(days.get(own) ?? []), each])
    }
    let gone = 0
    for (const parts of days.values()) if (await this.#retireDay(scope, parts)) gone++
    return gone
  }

  /** Whether the day could be taken: the newest stays open for whoever records. */
  async #retireDay(scope: CallScope, parts: readonly ListedSegment[]): Promise<boolean> {
    const last = parts.at(-1)
    if (last === undefined) return false
    const head = await this.#rows.head(scope, last.segment, true)
    const sealed =
      head !== undefined && head.next !== null && dayOfSegment(head.next) !== dayOfSegment(last.segment)
    if (!sealed) return false
    // First the word, then the deed: records that are missing without it would be taken for tampering.
    for (const { segment } of parts) await this.#rows.retire(scope, segment, "begun")
    for (const { segment } of parts) {
      for (let after = 0n; ; ) {
        const rows = await this.#rows.read(scope, segment, after, READ_ROWS)
        await this.#index.unfile(scope, rows.map(recordOf))
        const end = rows.at(-1)
        if (end === undefined || rows.length < READ_ROWS) break
        after = end.seq
      }
      // The segment is sealed: nothing writes to it any more, conditionally or not.
      await this.#rows.clear(scope, segment)
    }
    for (const { segment } of parts) await this.#rows.retire(scope, segment, "done")
    return true
  }
}
