/** What PostgreSQL, its driver and the socket below it throw, as reasons of the domain. The only place that knows SQLSTATEs. */
import pg from "pg"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"

/** What is known about a statement that failed. */
export interface FailureContext {
  /** Whether its effect would have become durable with it: a write in its own transaction, or a COMMIT. */
  readonly commits: boolean
  /** Whether anything of it may have reached the server. */
  readonly sent: boolean
}

/** How long callers should wait before they try a store again that is away, in milliseconds. */
const STORE_RETRY_MS = 1_000
const BUSY_RETRY_MS = 100

/** The server's own error inside `error`, or undefined. */
export function serverError(error: unknown): pg.DatabaseError | undefined {
  if (error instanceof pg.DatabaseError) return error
  if (error instanceof DomainError && error.cause instanceof pg.DatabaseError) return error.cause
  return undefined
}

/**
 * Whether `error` is a unique violation, of `constraint` (a constraint's or unique index' name) when given. Works on what a
 * statement inside `work` rejects with, and on the DomainError that leaves the Database.
 */
export function isUniqueViolation(error: unknown, constraint?: string): boolean {
  return isViolation(error, "23505", constraint)
}

/** Whether `error` is a foreign key violation, of `constraint` when given. */
export function isForeignKeyViolation(error: unknown, constraint?: string): boolean {
  return isViolation(error, "23503", constraint)
}

/** Whether `error` is a check violation, of `constraint` when given. */
export function isCheckViolation(error: unknown, constraint?: string): boolean {
  return isViolation(error, "23514", constraint)
}

function isViolation(error: unknown, code: string, constraint: string | undefined): boolean {
  const server = serverError(error)
  return server?.code === code && (constraint === undefined || server.constraint === constraint)
}

/** Whether the whole transaction may simply run again: it lost against another one (serialization failure or deadlock). */
export function isTransientConflict(error: unknown): boolean {
  const code = serverError(error)?.code
  return code === "40001" || code === "40P01"
}

/** Whether `error` is "cached plan must not change result type": the schema moved under the connection's prepared statements. */
export function isStalePlan(error: unknown): boolean {
  const server = serverError(error)
  return server?.code === "0A000" && server.routine === "RevalidateCachedQuery"
}

/** Whether `error` is "too many connections": the server has no room for another one, and is well otherwise. */
export function isServerFull(error: unknown): boolean {
  return serverError(error)?.code === "53300"
}

/** The server can be read only: a replica, or a primary that became one. */
const READ_ONLY = "25006"

/** Whether the connection must not be used again after `error`. */
export function breaksConnection(error: unknown): boolean {
  const server = serverError(error)
  if (server === undefined) return !(error instanceof DomainError)
  return isFatal(server) || isStalePlan(server) || server.code === READ_ONLY
}

function isFatal({ severity }: pg.DatabaseError): boolean {
  return severity === "FATAL" || severity === "PANIC"
}

/** DEADLINE_EXCEEDED or CANCELLED, whichever ended the scope. */
export function scopeEnded(scope: CallScope): DomainError {
  const reason = scope.signal.reason
  if (reason instanceof DomainError) return reason
  return Date.now() >= scope.deadlineMs
    ? new DomainError("DEADLINE_EXCEEDED", "the deadline passed before the store answered", { cause: reason })
    : new DomainError("CANCELLED", "the call was cancelled", { cause: reason })
}

/** Sent, and nothing is known about the effect. */
export function outcomeUnknown(cause: unknown): DomainError {
  return new DomainError(
    "OUTCOME_UNKNOWN",
    "the store did not say whether the change took place; repeat it with the same request_id, or read it back",
    { cause },
  )
}

/** STORE_UNAVAILABLE: nothing was applied. */
export function storeUnavailable(cause: unknown): DomainError {
  const why = isTlsFailure(cause)
    ? "TLS with the SQL store failed: one side does not trust the other's certificate, or has none"
    : "the SQL store cannot be reached"
  return new DomainError("STORE_UNAVAILABLE", `${why}; nothing was applied`, {
    metadata: { store: "postgres" },
    retryDelayMs: STORE_RETRY_MS,
    cause,
  })
}

/** SCHEMA_MISMATCH: something that the migrations make is not there. */
export function schemaMismatch(cause: unknown): DomainError {
  return new DomainError(
    "SCHEMA_MISMATCH",
    "the database's schema is not the one this version needs; run `keelplane migrate`",
    { metadata: { store: "postgres" }, cause },
  )
}

/** OVERLOADED: shed, nothing was applied. */
export function overloaded(message: string, cause?: unknown): DomainError {
  return new DomainError("OVERLOADED", message, {
    metadata: { store: "postgres" },
    retryDelayMs: BUSY_RETRY_MS,
    cause,
  })
}

/** Any failure of a statement as a DomainError. The driver's text stays in `cause`. */
export function toDomainError(error: unknown, context: FailureContext): DomainError {
  if (error instanceof DomainError) return error
  const server = serverError(error)
  if (server !== undefined) {
    if (context.commits && context.sent && isFatal(server)) return outcomeUnknown(error)
    return fromSqlState(server)
  }
  if (isConnectionFailure(error)) {
    return context.sent && context.commits ? outcomeUnknown(error) : storeUnavailable(error)
  }
  return internal(error)
}

function fromSqlState(error: pg.DatabaseError): DomainError {
  const code = error.code ?? ""
  const exact = BY_CODE.get(code)
  if (exact !== undefined) return exact(error)
  return BY_CLASS.get(code.slice(0, 2))?.(error) ?? internal(error)
}

type Mapping = (error: pg.DatabaseError) => DomainError

const storeFull: Mapping = (cause) =>
  new DomainError("STORE_FULL", "the SQL store has no room left; nothing was applied", {
    metadata: { store: "postgres" },
    cause,
  })
const storeAuth: Mapping = (cause) =>
  new DomainError(
    "STORE_AUTH",
    "the SQL store refused the daemon's credentials or their rights; check its configuration",
    { metadata: { store: "postgres" }, cause },
  )
const timedOut: Mapping = (cause) =>
  new DomainError(
    "DEADLINE_EXCEEDED",
    "the store stopped the statement at its deadline; nothing was applied",
    {
      cause,
    },
  )
const busy: Mapping = (cause) => overloaded("the SQL store is too busy; nothing was applied", cause)
const unstorable: Mapping = (cause) =>
  new DomainError(
    "INVALID_FIELD",
    "a value of the request cannot be stored: it is out of range or malformed",
    {
      cause,
    },
  )

const BY_CODE = new Map<string, Mapping>([
  ["57014", timedOut],
  ["55P03", busy],
  ["53100", storeFull],
  ["53200", busy],
  ["53300", busy],
  ["53400", busy],
  ["40001", busy],
  ["40P01", busy],
  ["54000", unstorable],
  // A backup or replica: it answers, but cannot be written to.
  [READ_ONLY, storeUnavailable],
  // Ended by the server: idle in a transaction, or in one, for too long.
  ["25P03", storeUnavailable],
  ["25P04", storeUnavailable],
  ["0A000", (error) => (isStalePlan(error) ? storeUnavailable(error) : internal(error))],
  // A value that a setting does not take: the role does not exist. Everywhere else a value of the request.
  ["22023", (error) => (isSetting(error) ? schemaMismatch(error) : unstorable(error))],
  // Row-level security caught a mistake of ours; any other right is for the operator to grant.
  ["42501", (error) => (error.routine === "ExecWithCheckOptions" ? internal(error) : storeAuth(error))],
  ["3D000", schemaMismatch],
  ["3F000", schemaMismatch],
  ["42P01", schemaMismatch],
  ["42703", schemaMismatch],
  ["42883", schemaMismatch],
  ["42704", schemaMismatch],
])

function isSetting({ routine }: pg.DatabaseError): boolean {
  return routine?.endsWith("_check_hook") === true
}

const BY_CLASS = new Map<string, Mapping>([
  ["08", storeUnavailable],
  ["57", storeUnavailable],
  ["58", storeUnavailable],
  ["28", storeAuth],
  ["53", busy],
  // Data exceptions: numeric overflow, malformed text, \u0000 in jsonb, invalid UTF-8.
  ["22", unstorable],
])

function internal(cause: unknown): DomainError {
  return new DomainError("INTERNAL", "internal error", { cause })
}

const SOCKET_CODES = new Set([
  "ECONNREFUSED",
  "ECONNRESET",
  "ECONNABORTED",
  "EPIPE",
  "ETIMEDOUT",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOENT",
  "EACCES",
])

/** Whether the driver lost, or never had, its connection. The driver marks some of these only by their text. */
function isConnectionFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if (error instanceof AggregateError) return error.errors.some(isConnectionFailure)
  if ("code" in error && typeof error.code === "string") {
    return SOCKET_CODES.has(error.code) || isTlsFailure(error)
  }
  return /connection|connect|not queryable|SSL|certificate|terminated/i.test(error.message)
}

/** OpenSSL's words for a certificate that is not good enough, and Node's for a handshake that failed. */
const TLS_CODES = /CERT|LEAF_SIGNATURE|INVALID_CA|INVALID_PURPOSE|HOSTNAME_MISMATCH|^ERR_(TLS|SSL)/

function isTlsFailure(error: unknown): boolean {
  if (!(error instanceof Error)) return false
  if ("code" in error && typeof error.code === "string" && TLS_CODES.test(error.code)) return true
  return error.message.includes("does not support SSL")
}
