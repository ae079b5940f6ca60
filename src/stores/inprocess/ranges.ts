/** Indexes as callers give them: inclusive, negative from the end. */
import type { IndexRange } from "../../domain/cache/operations.ts"

/** The range within 0 to size - 1; `from` is above `to` where it is empty. */
export function within(range: IndexRange, size: number): { readonly from: number; readonly to: number } {
  const from = range.start < 0 ? range.start + size : range.start
  const to = range.stop < 0 ? range.stop + size : range.stop
  return { from: Math.max(from, 0), to: Math.min(to, size - 1) }
}
