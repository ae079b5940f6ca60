/** Usage between the proto and the domain. */
import type { MessageInitShape, MessageShape } from "@bufbuild/protobuf"
import type {
  UsageAggregation as DomainAggregation,
  MeterQuantity,
  Reservation,
  UsageEvent,
  UsageProperty,
  UsageQuery,
  UsageRow,
  UsageSubject,
} from "../../domain/billing/model.ts"
import { usagePeriodEnd } from "../../domain/billing/period.ts"
import { normalQuantity } from "../../domain/billing/quantity.ts"
import { invalidField } from "../../domain/kernel/errors.ts"
import {
  type GetUsageRequest,
  type MeterQuantitySchema,
  UsageAggregation,
  type UsageEventSchema,
  UsagePeriod,
  type UsageReservationSchema,
  UsageReservationState,
  type UsageRowSchema,
} from "../../gen/keelplane/v1/billing_service_pb.ts"
import { optionalTimeOf, timeMessage } from "../times.ts"

/** Ids that the daemon gives to the usage it records itself. */
const RESERVED_PREFIX = "keelplane."
const DIMENSION_PREFIX = "dimensions."

const AGGREGATIONS: ReadonlyMap<UsageAggregation, DomainAggregation> = new Map([
  [UsageAggregation.COUNT, "COUNT"],
  [UsageAggregation.MAX, "MAX"],
  [UsageAggregation.UNIQUE_COUNT, "UNIQUE_COUNT"],
])

const PERIODS: ReadonlyMap<UsagePeriod, "HOUR" | "DAY" | "MONTH"> = new Map([
  [UsagePeriod.HOUR, "HOUR"],
  [UsagePeriod.DAY, "DAY"],
  [UsagePeriod.MONTH, "MONTH"],
])

const PROPERTIES: Readonly<Record<string, UsageProperty>> = {
  agent_id: { kind: "agent" },
  user_id: { kind: "user" },
  session_id: { kind: "session" },
}

/** Whose it is. */
export function subjectOf(message: UsageSubject): UsageSubject {
  const { agentId, userId, sessionId } = message
  return { agentId, userId, sessionId }
}

/** One event of a batch. Throws INVALID_FIELD for a reserved id. */
export function eventOf(message: MessageShape<typeof UsageEventSchema>, at: number): UsageEvent {
  if (message.eventId.startsWith(RESERVED_PREFIX)) {
    throw invalidField(`events[${at}].event_id`, `must not begin with ${RESERVED_PREFIX}`)
  }
  return {
    eventId: message.eventId,
    meter: message.meter,
    quantity: normalQuantity(message.quantity),
    eventTime: optionalTimeOf(`events[${at}].event_time`, message.eventTime),
    subject: subjectOf(message),
    dimensions: message.dimensions,
  }
}

/** A query. Throws INVALID_FIELD for parts that do not fit each other. */
export function queryOf(req: GetUsageRequest): UsageQuery {
  const startTime = optionalTimeOf("start_time", req.startTime)
  const endTime = optionalTimeOf("end_time", req.endTime)
  if (startTime !== undefined && endTime !== undefined && endTime < startTime) {
    throw invalidField("end_time", "must not be before start_time")
  }
  const aggregation = AGGREGATIONS.get(req.aggregation) ?? "SUM"
  if ((aggregation === "UNIQUE_COUNT") !== (req.uniqueBy !== "")) {
    throw invalidField("unique_by", "is required with UNIQUE_COUNT and goes with nothing else")
  }
  return {
    meter: req.meter,
    aggregation,
    startTime,
    endTime,
    period: PERIODS.get(req.period),
    groupBy: req.groupBy.map((name, at) => propertyOf(`group_by[${at}]`, name)),
    uniqueBy: req.uniqueBy === "" ? undefined : propertyOf("unique_by", req.uniqueBy),
    subject: subjectOf(req),
    dimensions: req.dimensions,
  }
}

function propertyOf(field: string, name: string): UsageProperty {
  if (name.startsWith(DIMENSION_PREFIX)) {
    return { kind: "dimension", key: name.slice(DIMENSION_PREFIX.length) }
  }
  const property = Object.hasOwn(PROPERTIES, name) ? PROPERTIES[name] : undefined
  if (property === undefined)
    throw invalidField(field, "must be agent_id, user_id, session_id or dimensions.<key>")
  return property
}

/** An aggregate as callers see it. */
export function rowMessage(
  row: UsageRow,
  query: UsageQuery,
  groupBy: readonly string[],
): MessageInitShape<typeof UsageRowSchema> {
  const { startTime, value, groups, events } = row
  const end =
    startTime === undefined || query.period === undefined
      ? undefined
      : usagePeriodEnd(query.period, startTime)
  return {
    startTime: timeMessage(startTime),
    endTime: timeMessage(end),
    groups: Object.fromEntries(groupBy.map((name, at) => [name, groups[at] ?? ""])),
    value,
    eventCount: events,
  }
}

/** Quantities of different meters. Throws INVALID_FIELD for a meter that is named twice. */
export function itemsOf(messages: readonly MessageShape<typeof MeterQuantitySchema>[]): MeterQuantity[] {
  const seen = new Set<string>()
  return messages.map(({ meter, quantity }, at) => {
    if (seen.has(meter)) throw invalidField(`items[${at}].meter`, "is named twice")
    seen.add(meter)
    return { meter, quantity: normalQuantity(quantity) }
  })
}

/** A reservation as callers see it. */
export function reservationMessage(
  reservation: Reservation,
): MessageInitShape<typeof UsageReservationSchema> {
  return {
    reservationId: reservation.id,
    items: [...reservation.items],
    state: UsageReservationState[reservation.state],
    createTime: timeMessage(reservation.createTime),
    expireTime: timeMessage(reservation.expireTime),
    settledItems: [...reservation.settledItems],
  }
}
