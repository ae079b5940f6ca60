/** What the servers, the driver and the socket below it throw, as reasons of the domain. The only place that knows their codes. */
import cassandra from "cassandra-driver"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"

const { errors } = cassandra
const { responseErrorCodes: codes, consistencies } = cassandra.types

/** What a statement can do: nothing, write, or write on a condition. */
export type Effect = "read" | "write" | "cas"

/** How long callers should wait before they try a store again that is away, in milliseconds. */
const STORE_RETRY_MS = 1_000
const BUSY_RETRY_MS = 100
const STORE = { store: "cassandra" }

/** STORE_UNAVAILABLE: nothing was applied. */
export function storeUnavailable(cause?: unknown): DomainError {
  return new DomainError("STORE_UNAVAILABLE", "the event store cannot be reached; nothing was applied", {
    metadata: STORE,
    retryDelayMs: STORE_RETRY_MS,
    cause,
  })
}

/** Sent, and nothing is known about the effect. */
export function outcomeUnknown(cause?: unknown): DomainError {
  return new DomainError(
    "OUTCOME_UNKNOWN",
    "the store did not say whether the change took place; repeat it with the same request_id, or read it back",
    { metadata: STORE, cause },
  )
}

/** OVERLOADED: shed, nothing was applied. */
export function overloaded(message: string, cause?: unknown): DomainError {
  return new DomainError("OVERLOADED", message, { metadata: STORE, retryDelayMs: BUSY_RETRY_MS, cause })
}

/** SCHEMA_MISMATCH: something that the migrations make is not there. */
export function schemaMismatch(cause?: unknown): DomainError {
  return new DomainError(
    "SCHEMA_MISMATCH",
    "the keyspace's schema is not the one this version needs; run `keelplane migrate`",
    { metadata: STORE, cause },
  )
}

/** STORE_AUTH. */
export function storeAuth(cause?: unknown): DomainError {
  return new DomainError(
    "STORE_AUTH",
    "the event store refused the daemon's credentials or their rights; check its configuration",
    { metadata: STORE, cause },
  )
}

/** DEADLINE_EXCEEDED or CANCELLED, whichever ended the scope, with nothing applied. */
export function scopeEnded(scope: CallScope): DomainError {
  if (Date.now() >= scope.deadlineMs)
    return new DomainError("DEADLINE_EXCEEDED", "the deadline passed before the store answered")
  const reason: unknown = scope.signal.reason
  return reason instanceof DomainError
    ? reason
    : new DomainError("CANCELLED", "the call was cancelled", { cause: reason })
}

/** Whether a conditional statement may have taken place although it failed. */
export function isUnknown(error: unknown): boolean {
  return error instanceof DomainError && error.reason === "OUTCOME_UNKNOWN"
}

/** Any failure of a statement that was handed to the driver. The driver's text stays in `cause`. */
export function toDomainError(error: unknown, effect: Effect, scope: CallScope): DomainError {
  if (error instanceof DomainError) return error
  if (error instanceof errors.ResponseError) return fromResponse(error, effect)
  if (error instanceof errors.NoHostAvailableError) return fromHosts(error)
  if (error instanceof errors.BusyConnectionError) return busy(error)
  if (error instanceof errors.AuthenticationError) return storeAuth(error)
  if (error instanceof errors.OperationTimedOutError) {
    if (effect !== "read") return outcomeUnknown(error)
    return Date.now() >= scope.deadlineMs ? scopeEnded(scope) : storeUnavailable(error)
  }
  if (isSocketError(error)) {
    return effect === "read" || notWritten(error) ? storeUnavailable(error) : outcomeUnknown(error)
  }
  if (error instanceof TypeError || error instanceof RangeError || error instanceof errors.ArgumentError)
    return internal(error)
  if (isUnconnected(error)) return storeUnavailable(error)
  if (error instanceof errors.DriverError)
    return effect === "read" ? storeUnavailable(error) : outcomeUnknown(error)
  return internal(error)
}

/** Why the first connection of a client could not be made. */
export function connectError(error: unknown): DomainError {
  if (error instanceof DomainError) return error
  if (error instanceof errors.ResponseError) return fromResponse(error, "read")
  if (error instanceof errors.AuthenticationError) return storeAuth(error)
  if (error instanceof errors.NoHostAvailableError) return fromHosts(error)
  return storeUnavailable(error)
}

/** Every host refused before anything was sent to it: writes are never tried a second time after they were sent. */
function fromHosts(error: cassandra.errors.NoHostAvailableError): DomainError {
  // The driver's types call the values of this map anything.
  const inner: unknown[] = Object.values((error.innerErrors ?? {}) as Record<string, unknown>)
  for (const each of inner) {
    if (each instanceof errors.AuthenticationError) return storeAuth(error)
    if (each instanceof errors.BusyConnectionError) return busy(error)
    if (each instanceof errors.ResponseError) {
      const found = fromResponse(each, "read")
      if (found.reason !== "INTERNAL") return found
    }
  }
  return storeUnavailable(error)
}

/** What cassandra-driver keeps of a refusal beside its code. */
interface Refusal {
  readonly code: number
  readonly message: string
  readonly consistencies?: number
}

/** Codes that the driver has no names for. */
const CAS_WRITE_UNKNOWN = 0x1700

function fromResponse(error: cassandra.errors.ResponseError, effect: Effect): DomainError {
  const { code, consistencies: level, message }: Refusal = error
  switch (code) {
    case codes.unavailableException:
      // A conditional write that was accepted may find too few nodes for its second half.
      return effect === "cas" && level !== consistencies.serial && level !== consistencies.localSerial
        ? outcomeUnknown(error)
        : storeUnavailable(error)
    case codes.overloaded:
      // Plain requests are shed before anything of them is done, conditional ones perhaps between their rounds.
      return effect === "cas" ? outcomeUnknown(error) : storeUnavailable(error)
    case codes.isBootstrapping:
    case codes.truncateError:
      return storeUnavailable(error)
    case codes.readTimeout:
    case codes.readFailure:
      return effect === "read" ? storeUnavailable(error) : outcomeUnknown(error)
    case codes.writeTimeout:
    case codes.writeFailure:
    case CAS_WRITE_UNKNOWN:
      return outcomeUnknown(error)
    case codes.badCredentials:
    case codes.unauthorized:
      return storeAuth(error)
    case codes.invalid:
    case codes.configError:
      return /unconfigured table|(table|keyspace) .*(does not|doesn't) exist|undefined (column|name)|unknown identifier|unrecognized name/i.test(
        message,
      )
        ? schemaMismatch(error)
        : internal(error)
    case codes.serverError:
      return effect === "read" ? storeUnavailable(error) : outcomeUnknown(error)
    default:
      return internal(error)
  }
}

function busy(cause: unknown): DomainError {
  return overloaded("the event store is too busy; nothing was applied", cause)
}

function isSocketError(error: unknown): boolean {
  return error instanceof Error && "isSocketError" in error && error.isSocketError === true
}

function notWritten(error: unknown): boolean {
  return error instanceof Error && "requestNotWritten" in error && error.requestNotWritten === true
}

/** A node that counts as up and has just lost its connections; the driver says so of a statement that it would prepare there. */
function isUnconnected(error: unknown): boolean {
  return error instanceof Error && error.message === "No connection available"
}

function internal(cause: unknown): DomainError {
  return new DomainError("INTERNAL", "internal error", { cause })
}
