import type { JobBackoff } from "./job-model.ts"

/**
 * How long to wait before the attempt after `attempt` (1 for the first one): exponential, capped, and spread over the upper
 * half so that jobs which failed together do not return together.
 * @param random from 0 (inclusive) to 1 (exclusive).
 */
export function retryDelayMs(backoff: JobBackoff, attempt: number, random: number): number {
  const grown = backoff.initialMs * backoff.multiplier ** Math.max(0, attempt - 1)
  const capped = Math.min(grown, backoff.maximumMs)
  return Math.round(capped * (1 - random / 2))
}
