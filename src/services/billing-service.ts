/** BillingService. */
import type { BudgetStore, UsageStore } from "../domain/billing/ports.ts"
import type { Clock } from "../domain/kernel/clock.ts"
import { invalidField } from "../domain/kernel/errors.ts"
import { BillingService } from "../gen/keelplane/v1/billing_service_pb.ts"
import { type Service, service } from "../rpc/handler.ts"
import { budgetFields, budgetMessage, viewMessage } from "./billing/budget-messages.ts"
import {
  eventOf,
  itemsOf,
  queryOf,
  reservationMessage,
  rowMessage,
  subjectOf,
} from "./billing/usage-messages.ts"
import type { Pages } from "./paging.ts"
import { expirationOf, optionalTimeOf } from "./times.ts"

const USAGE_PAGE = { defaultSize: 1_000, maxSize: 10_000 }
const BUDGET_PAGE = { defaultSize: 100, maxSize: 1_000 }
const DEFAULT_RESERVATION_MS = 10 * 60_000
const MAX_RESERVATION_MS = 7 * 24 * 3_600_000

/** What {@link createBillingService} needs. */
export interface BillingServiceDeps {
  readonly usage: UsageStore
  readonly budgets: BudgetStore
  readonly pages: Pages
  readonly clock: Clock
}

/** BillingService over its stores. */
export function createBillingService({ usage, budgets, pages, clock }: BillingServiceDeps): Service {
  return service(BillingService, {
    recordUsage: async (req, ctx) => {
      const { recorded, duplicates } = await usage.record(ctx, req.events.map(eventOf))
      return { recordedCount: recorded, duplicateCount: duplicates }
    },
    getUsage: async (req, ctx) => {
      const query = queryOf(req)
      const page = await usage.aggregate(ctx, query, pages.request(ctx, req, USAGE_PAGE))
      const rows = page.items.map((row) => rowMessage(row, query, req.groupBy))
      return { rows, nextPageToken: pages.token(ctx, req, page.next) }
    },
    setBudget: async ({ budget, ifRevisionMatch }, ctx) => {
      if (budget === undefined) return {}
      return { budget: budgetMessage(await budgets.set(ctx, budgetFields(budget), ifRevisionMatch)) }
    },
    getBudget: async (req, ctx) => {
      const time = optionalTimeOf("time", req.time)
      return { budget: viewMessage(await budgets.get(ctx, req.budgetId, time)) }
    },
    listBudgets: async (req, ctx) => {
      const meter = req.meter === "" ? undefined : req.meter
      const page = await budgets.list(ctx, meter, pages.request(ctx, req, BUDGET_PAGE))
      return { budgets: page.items.map(viewMessage), nextPageToken: pages.token(ctx, req, page.next) }
    },
    deleteBudget: async (req, ctx) => {
      await budgets.delete(ctx, req.budgetId, req.ifRevisionMatch)
      return {}
    },
    reserveUsage: async (req, ctx) => {
      const now = clock.now()
      const expireTime = expirationOf(req.expiration, now) ?? now + DEFAULT_RESERVATION_MS
      if (expireTime > now + MAX_RESERVATION_MS) {
        throw invalidField("expire_time", "must be at most 7 days ahead")
      }
      const input = { items: itemsOf(req.items), subject: subjectOf(req), expireTime }
      const { reservation, exceededSoftBudgetIds } = await budgets.reserve(ctx, input)
      return {
        reservation: reservationMessage(reservation),
        exceededSoftBudgetIds: [...exceededSoftBudgetIds],
      }
    },
    settleUsage: async (req, ctx) => {
      const eventTime = optionalTimeOf("event_time", req.eventTime)
      const input = { items: itemsOf(req.items), eventTime, dimensions: req.dimensions }
      return { reservation: reservationMessage(await budgets.settle(ctx, req.reservationId, input)) }
    },
    releaseUsage: async (req, ctx) => ({
      reservation: reservationMessage(await budgets.release(ctx, req.reservationId)),
    }),
  })
}
