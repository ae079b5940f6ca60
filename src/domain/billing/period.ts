/** Budget periods in UTC. */
import type { BudgetPeriod } from "./model.ts"

/** Where the period that holds `time` begins and ends (exclusive); undefined for TOTAL. */
export function periodBounds(
  period: BudgetPeriod,
  time: number,
): { readonly startTime: number; readonly endTime: number } | undefined {
  const at = new Date(time)
  const year = at.getUTCFullYear()
  const month = at.getUTCMonth()
  const day = at.getUTCDate()
  switch (period) {
    case "DAY":
      return { startTime: utc(year, month, day), endTime: utc(year, month, day + 1) }
    case "MONTH":
      return { startTime: utc(year, month, 1), endTime: utc(year, month + 1, 1) }
    case "TOTAL":
      return undefined
  }
}

/** Date.UTC takes the years 0 to 99 for 1900 to 1999. */
function utc(year: number, month: number, day: number): number {
  return new Date(0).setUTCFullYear(year, month, day)
}

/** Where the usage period that begins at `startTime` ends, exclusive. */
export function usagePeriodEnd(period: "HOUR" | "DAY" | "MONTH", startTime: number): number {
  if (period === "HOUR") return startTime + 3_600_000
  return periodBounds(period, startTime)?.endTime ?? startTime
}
