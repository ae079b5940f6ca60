/**
 * The one error type of the project. Adapters and use cases throw it; src/rpc/status turns it into a gRPC status.
 * A test holds this list and the ErrorReason enum in proto/keelplane/v1/error_reason.proto equal.
 */

/** Machine-readable causes, by the names that callers see in google.rpc.ErrorInfo. */
export const REASONS = [
  "INTERNAL",
  "INVALID_FIELD",
  "INVALID_FILTER",
  "INVALID_PAGE_TOKEN",
  "INVALID_RESUME_TOKEN",
  "REQUEST_ID_REUSED",
  "REQUEST_IN_PROGRESS",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "REVISION_MISMATCH",
  "UNAUTHENTICATED",
  "PERMISSION_DENIED",
  "DEADLINE_EXCEEDED",
  "CANCELLED",
  "STORE_UNAVAILABLE",
  "OUTCOME_UNKNOWN",
  "OVERLOADED",
  "DRAINING",
  "LIMIT_EXCEEDED",
  "UNSUPPORTED_BY_ENGINE",
  "UNIMPLEMENTED",
  "SLOW_CONSUMER",
  "SCHEMA_MISMATCH",
  "STORE_FULL",
  "STORE_AUTH",
  "FAILED_PRECONDITION",
  "MALFORMED_MESSAGE",
  "RESPONSE_TOO_LARGE",
  "WRONG_TYPE",
  "SCRIPT_FAILED",
  "LEASE_LOST",
  "LOCK_NOT_HELD",
  "BUDGET_EXCEEDED",
  "STREAM_DELETED",
  "CORRUPTED_IDEMPOTENCY",
  "SESSION_ENDED",
] as const

/** One of {@link REASONS}. */
export type Reason = (typeof REASONS)[number]

/** A rule that one field of the request breaks; becomes google.rpc.BadRequest.FieldViolation. */
export interface FieldViolation {
  /** Path in the request as the proto spells it, e.g. `records[3].vector`. */
  readonly field: string
  /** What is wrong and what would be right, in one sentence, without the value where that may be a secret. */
  readonly description: string
}

/** Optional parts of a {@link DomainError}. */
export interface DomainErrorOptions {
  /** Every value that the message mentions, for programs. Never payloads, secrets or driver text. */
  readonly metadata?: Readonly<Record<string, string>>
  /** Fields at fault; only with INVALID_ARGUMENT reasons. */
  readonly violations?: readonly FieldViolation[]
  /** When a retry makes sense, in milliseconds from now; only with retryable reasons. */
  readonly retryDelayMs?: number
  /** What the store or library threw. For the log only; never sent. */
  readonly cause?: unknown
}

/** A failure with a reason that callers can act on. `message` is sent: one sentence, what happened and what to do next. */
export class DomainError extends Error {
  override readonly name = "DomainError"
  readonly reason: Reason
  readonly metadata: Readonly<Record<string, string>>
  readonly violations: readonly FieldViolation[]
  readonly retryDelayMs: number | undefined

  constructor(reason: Reason, message: string, options: DomainErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.reason = reason
    this.metadata = options.metadata ?? {}
    this.violations = options.violations ?? []
    this.retryDelayMs = options.retryDelayMs
  }
}

/** Whether a failure says that a store could not be reached, so that what was known before may still hold. */
export function isStoreAway(error: unknown): boolean {
  return error instanceof DomainError && AWAY.has(error.reason)
}

const AWAY: ReadonlySet<Reason> = new Set([
  "STORE_UNAVAILABLE",
  "STORE_AUTH",
  "DEADLINE_EXCEEDED",
  "OVERLOADED",
])

/** INVALID_FIELD for one field. */
export function invalidField(field: string, description: string): DomainError {
  return new DomainError("INVALID_FIELD", `${field}: ${description}`, {
    metadata: { field },
    violations: [{ field, description }],
  })
}

/** NOT_FOUND for a resource kind (lower case, e.g. `collection`) and the name the caller used. */
export function notFound(resource: string, name: string): DomainError {
  return new DomainError("NOT_FOUND", `${resource} "${name}" does not exist`, {
    metadata: { resource, name },
  })
}

/** ALREADY_EXISTS for a resource kind and name. */
export function alreadyExists(resource: string, name: string): DomainError {
  return new DomainError("ALREADY_EXISTS", `${resource} "${name}" exists already`, {
    metadata: { resource, name },
  })
}

/** ABORTED: the caller's expectation of a revision did not hold. */
export function revisionMismatch(
  resource: string,
  name: string,
  expected: bigint | string,
  actual: bigint | string,
): DomainError {
  return new DomainError(
    "REVISION_MISMATCH",
    `${resource} "${name}" is at revision ${actual}, not ${expected}; read it again and retry`,
    { metadata: { resource, name, expected: String(expected), actual: String(actual) } },
  )
}

/** LIMIT_EXCEEDED: `value` of `field` is over `maximum` (inclusive). */
export function limitExceeded(field: string, value: number, maximum: number): DomainError {
  const description = `is ${value}, at most ${maximum} allowed`
  return new DomainError("LIMIT_EXCEEDED", `${field} ${description}`, {
    metadata: { limit: field, value: String(value), maximum: String(maximum) },
    violations: [{ field, description }],
  })
}
