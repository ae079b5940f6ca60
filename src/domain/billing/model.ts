/**
 * What billing keeps. Quantities are decimal strings in the form of {@link normalQuantity}; times are epoch milliseconds.
 */

/** Whose usage it is; "" where nobody's. */
export interface UsageSubject {
  readonly agentId: string
  readonly userId: string
  readonly sessionId: string
}

/** Dimensions by key. */
export type Dimensions = Readonly<Record<string, string>>

/** One measured use. */
export interface UsageEvent {
  readonly eventId: string
  readonly meter: string
  readonly quantity: string
  /** The time of recording, when absent. */
  readonly eventTime: number | undefined
  readonly subject: UsageSubject
  readonly dimensions: Dimensions
}

/** What became of a batch. */
export interface RecordResult {
  readonly recorded: number
  readonly duplicates: number
}

/** How quantities are combined. */
export type UsageAggregation = "SUM" | "COUNT" | "MAX" | "UNIQUE_COUNT"

/** A property of events to group by or to count. */
export type UsageProperty =
  | { readonly kind: "agent" | "user" | "session" }
  | { readonly kind: "dimension"; readonly key: string }

/** What to aggregate. */
export interface UsageQuery {
  readonly meter: string
  readonly aggregation: UsageAggregation
  /** Inclusive; undefined for no bound. */
  readonly startTime: number | undefined
  /** Exclusive; undefined for no bound. */
  readonly endTime: number | undefined
  readonly period: "HOUR" | "DAY" | "MONTH" | undefined
  readonly groupBy: readonly UsageProperty[]
  /** With UNIQUE_COUNT. */
  readonly uniqueBy: UsageProperty | undefined
  /** "" for everybody's. */
  readonly subject: UsageSubject
  /** Only events that have all of them. */
  readonly dimensions: Dimensions
}

/** One aggregate. */
export interface UsageRow {
  /** Where the period begins; undefined without one. */
  readonly startTime: number | undefined
  /** In the order of {@link UsageQuery.groupBy}. */
  readonly groups: readonly string[]
  readonly value: string
  readonly events: bigint
}

/** When a budget begins anew; always in UTC. */
export type BudgetPeriod = "DAY" | "MONTH" | "TOTAL"

/** Whose usage a budget counts; kind "" for everybody's. */
export interface BudgetSubject {
  readonly kind: "" | "agent" | "user" | "session"
  readonly id: string
}

/** A limit as callers set it. */
export interface BudgetFields {
  readonly id: string
  readonly meter: string
  readonly period: BudgetPeriod
  readonly limit: string
  /** Refuses reservations over the limit. */
  readonly hard: boolean
  readonly subject: BudgetSubject
  /** Percent of the limit, rising. */
  readonly thresholds: readonly number[]
}

/** A limit as it is stored. */
export interface Budget extends BudgetFields {
  readonly revision: bigint
  readonly createTime: number
  readonly updateTime: number
}

/** How a budget stands. */
export interface BudgetStatus {
  /** Undefined for TOTAL. */
  readonly bounds: { readonly startTime: number; readonly endTime: number } | undefined
  readonly used: string
  readonly reserved: string
  readonly remaining: string
  readonly reachedThresholds: readonly number[]
  readonly exceeded: boolean
}

/** A budget and how it stands. */
export interface BudgetView {
  readonly budget: Budget
  readonly status: BudgetStatus
}

/** An amount of one meter. */
export interface MeterQuantity {
  readonly meter: string
  readonly quantity: string
}

/** Where a reservation stands. */
export type ReservationState = "ACTIVE" | "SETTLED" | "RELEASED" | "EXPIRED"

/** Quantities set aside. */
export interface Reservation {
  readonly id: string
  /** By meter in byte order. */
  readonly items: readonly MeterQuantity[]
  readonly state: ReservationState
  readonly createTime: number
  readonly expireTime: number
  /** What was recorded when it was settled. */
  readonly settledItems: readonly MeterQuantity[]
}

/** How long a reservation can be settled after it has expired, in milliseconds. */
export const SETTLE_AFTER_EXPIRY_MS = 7 * 24 * 3_600_000
