/** Budgets between the proto and the domain. */
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import { timestampFromMs } from "@bufbuild/protobuf/wkt"
import type {
  Budget,
  BudgetFields,
  BudgetSubject,
  BudgetView,
  BudgetPeriod as DomainPeriod,
} from "../../domain/billing/model.ts"
import { normalQuantity } from "../../domain/billing/quantity.ts"
import { invalidField } from "../../domain/kernel/errors.ts"
import {
  BudgetEnforcement,
  BudgetPeriod,
  type BudgetSchema,
  type BudgetViewSchema,
} from "../../gen/keelplane/v1/billing_service_pb.ts"
import { timeMessage } from "../times.ts"

const PERIODS: ReadonlyMap<BudgetPeriod, DomainPeriod> = new Map([
  [BudgetPeriod.DAY, "DAY"],
  [BudgetPeriod.MONTH, "MONTH"],
  [BudgetPeriod.TOTAL, "TOTAL"],
])

const KINDS = { agentId: "agent", userId: "user", sessionId: "session" } as const
const CASES = { agent: "agentId", user: "userId", session: "sessionId" } as const

/** A budget to be set. */
export function budgetFields(message: MessageShape<typeof BudgetSchema>): BudgetFields {
  const period = PERIODS.get(message.period)
  if (period === undefined) throw invalidField("budget.period", "is required")
  return {
    id: message.budgetId,
    meter: message.meter,
    period,
    limit: normalQuantity(message.limit),
    hard: message.enforcement !== BudgetEnforcement.SOFT,
    subject: subjectOf(message.subject),
    thresholds: [...message.thresholds].sort((a, b) => a - b),
  }
}

function subjectOf(subject: MessageShape<typeof BudgetSchema>["subject"]): BudgetSubject {
  return subject.case === undefined ? { kind: "", id: "" } : { kind: KINDS[subject.case], id: subject.value }
}

/** A budget as callers see it. */
export function budgetMessage(budget: Budget): MessageInitShape<typeof BudgetSchema> {
  const { id, meter, limit, hard, subject, thresholds, revision } = budget
  return {
    budgetId: id,
    meter,
    period: BudgetPeriod[budget.period],
    limit,
    enforcement: hard ? BudgetEnforcement.HARD : BudgetEnforcement.SOFT,
    ...(subject.kind === "" ? {} : { subject: { case: CASES[subject.kind], value: subject.id } }),
    thresholds: [...thresholds],
    revision,
    createTime: timestampFromMs(budget.createTime),
    updateTime: timestampFromMs(budget.updateTime),
  }
}

/** A budget and how it stands, as callers see it. */
export function viewMessage({ budget, status }: BudgetView): MessageInitShape<typeof BudgetViewSchema> {
  const { bounds, used, reserved, remaining, reachedThresholds, exceeded } = status
  return {
    budget: budgetMessage(budget),
    status: {
      periodStartTime: timeMessage(bounds?.startTime),
      periodEndTime: timeMessage(bounds?.endTime),
      used,
      reserved,
      remaining,
      reachedThresholds: [...reachedThresholds],
      exceeded,
    },
  }
}
