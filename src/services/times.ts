/** Times of the API: checked on the way in, to the millisecond. */
import { type Duration, durationMs, type Timestamp, timestampFromMs } from "@bufbuild/protobuf/wkt"
import { invalidField } from "../domain/kernel/errors.ts"

/** 0001-01-01T00:00:00Z and the last millisecond of 9999, as google.protobuf.Timestamp has it. */
const EARLIEST_MS = -62_135_596_800_000
const LATEST_MS = 253_402_300_799_999
const MAX_NANOS = 999_999_999

/** Epoch milliseconds, rounded down. Throws INVALID_FIELD outside the years 1 to 9999. */
export function timeOf(field: string, time: Timestamp): number {
  // Rounded up, the last nanoseconds of 9999 would be in the year after.
  const ms = Number(time.seconds) * 1_000 + Math.floor(time.nanos / 1_000_000)
  if (!(ms >= EARLIEST_MS && ms <= LATEST_MS) || time.nanos < 0 || time.nanos > MAX_NANOS) {
    throw invalidField(field, "must be a time in the years 1 to 9999")
  }
  return ms
}

/** Like {@link timeOf}, undefined for an absent time. */
export function optionalTimeOf(field: string, time: Timestamp | undefined): number | undefined {
  return time === undefined ? undefined : timeOf(field, time)
}

/** The instant of an `expiration` oneof; undefined when it is not set. Throws INVALID_FIELD past the year 9999. */
export function expirationOf(
  expiration:
    | { readonly case: "expireTime"; readonly value: Timestamp }
    | { readonly case: "ttl"; readonly value: Duration }
    | { readonly case: undefined; readonly value?: undefined },
  now: number,
): number | undefined {
  if (expiration.case === "expireTime") return timeOf("expire_time", expiration.value)
  if (expiration.case !== "ttl") return undefined
  const time = now + Math.ceil(durationMs(expiration.value))
  if (!(time <= LATEST_MS)) throw invalidField("ttl", "must end in the years 1 to 9999")
  return time
}

/** A Timestamp, or undefined. */
export function timeMessage(ms: number | undefined): Timestamp | undefined {
  return ms === undefined ? undefined : timestampFromMs(ms)
}
