/** The only place that turns failures into gRPC statuses. The ErrorReason enum in the proto is the table. */
import { create, type DescMessage, getOption, type MessageShape, toBinary } from "@bufbuild/protobuf"
import { anyPack, type DurationSchema, durationFromMs } from "@bufbuild/protobuf/wkt"
import { DomainError, type FieldViolation, REASONS, type Reason } from "../domain/kernel/errors.ts"
import type { Logger } from "../domain/kernel/logger.ts"
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.ts"
import { StatusSchema } from "../gen/google/rpc/status_pb.ts"
import { ErrorReasonSchema } from "../gen/keelplane/v1/error_reason_pb.ts"
import { error as errorOption } from "../gen/keelplane/v1/options_pb.ts"

/** `domain` of every ErrorInfo. */
export const ERROR_DOMAIN = "keelplane.dev"

const UNAVAILABLE = 14
const RESOURCE_EXHAUSTED = 8
const DEFAULT_RETRY_DELAY_MS = 100
/** Any negative number forbids a retry. */
const NEVER = -1
/** Trailers have to fit into what clients take: 8 KiB in all with Java's and C++'s defaults, in base64. */
const MAX_MESSAGE_CHARS = 512
const MAX_METADATA_CHARS = 256
const MAX_VIOLATIONS_CHARS = 3000

interface ReasonRow {
  readonly code: number
  readonly retryable: boolean
}

const TABLE: ReadonlyMap<Reason, ReasonRow> = readTable()

function readTable(): ReadonlyMap<Reason, ReasonRow> {
  const rows = new Map<Reason, ReasonRow>()
  for (const reason of REASONS) {
    const value = ErrorReasonSchema.values.find((each) => each.name === `ERROR_REASON_${reason}`)
    if (value === undefined) throw new Error(`ErrorReason has no value for ${reason}`)
    const { code, retryable } = getOption(value, errorOption)
    if (code === 0) throw new Error(`ErrorReason ${reason} has no status code`)
    rows.set(reason, { code, retryable })
  }
  return rows
}

/** One detail message beside its schema. */
export interface StatusDetail<Desc extends DescMessage = DescMessage> {
  readonly desc: Desc
  readonly value: MessageShape<Desc>
}

/** A failure as it leaves the daemon. */
export interface RpcStatus {
  /** gRPC status code, 1 to 16. */
  readonly code: number
  readonly reason: Reason
  readonly message: string
  /** Exactly one ErrorInfo first, then BadRequest and RetryInfo where they apply. */
  readonly details: readonly StatusDetail[]
  /** For the trailer `grpc-retry-pushback-ms`; -1 forbids the client library's own retry. */
  readonly pushbackMs: number | undefined
}

/** The gRPC status code of a reason. */
export function codeOf(reason: Reason): number {
  return TABLE.get(reason)?.code ?? 13
}

/** Whether the same call may be sent again unchanged. */
export function isRetryable(reason: Reason): boolean {
  return TABLE.get(reason)?.retryable ?? false
}

function detail<Desc extends DescMessage>(desc: Desc, value: MessageShape<Desc>): StatusDetail {
  return { desc, value }
}

/** Headers carry neither lone surrogates nor megabytes. */
function presentable(text: string, maximum: number): string {
  const whole = text.isWellFormed() ? text : text.toWellFormed()
  return whole.length <= maximum ? whole : `${whole.slice(0, maximum - 1).toWellFormed()}\u2026`
}

/** As many violations as fit, and always the first. */
function fitting(violations: readonly FieldViolation[]): readonly FieldViolation[] {
  const fit: FieldViolation[] = []
  let chars = 0
  for (const each of violations) {
    const field = presentable(each.field, MAX_METADATA_CHARS)
    const description = presentable(each.description, MAX_METADATA_CHARS)
    chars += field.length + description.length
    if (fit.length > 0 && chars > MAX_VIOLATIONS_CHARS) break
    fit.push({ field, description })
  }
  return fit
}

/** Client libraries retry these two by themselves where they are told to; UNKNOWN with us is always OUTCOME_UNKNOWN. */
const retriedByClients = (code: number) => code === UNAVAILABLE || code === RESOURCE_EXHAUSTED

function delayOf(failure: DomainError): number {
  return Math.max(0, Math.ceil(failure.retryDelayMs ?? DEFAULT_RETRY_DELAY_MS))
}

function retryDelay(failure: DomainError, row: ReasonRow): number | undefined {
  return row.retryable && retriedByClients(row.code) ? delayOf(failure) : undefined
}

/** When a client library may send the call again: never where that could do harm or cannot help. */
function pushback(failure: DomainError, row: ReasonRow, repeatable: boolean): number | undefined {
  if (failure.reason === "OUTCOME_UNKNOWN") return repeatable ? delayOf(failure) : NEVER
  return retryDelay(failure, row) ?? (retriedByClients(row.code) ? NEVER : undefined)
}

/** The status of a failure with a reason. `repeatable`: the call has a request_id. */
export function statusOf(failure: DomainError, repeatable = false): RpcStatus {
  const row = TABLE.get(failure.reason) ?? { code: 13, retryable: false }
  const metadata: Record<string, string> = {}
  for (const [key, value] of Object.entries(failure.metadata)) {
    metadata[key] = presentable(value, MAX_METADATA_CHARS)
  }
  const details = [
    detail(
      ErrorInfoSchema,
      create(ErrorInfoSchema, { reason: failure.reason, domain: ERROR_DOMAIN, metadata }),
    ),
  ]
  if (failure.violations.length > 0) {
    const fieldViolations = fitting(failure.violations)
    details.push(
      detail(BadRequestSchema, create(BadRequestSchema, { fieldViolations: [...fieldViolations] })),
    )
  }
  const delayMs = retryDelay(failure, row)
  if (delayMs !== undefined) {
    const info = create(RetryInfoSchema, { retryDelay: durationOf(delayMs) })
    details.push(detail(RetryInfoSchema, info))
  }
  return {
    code: row.code,
    reason: failure.reason,
    message: presentable(failure.message, MAX_MESSAGE_CHARS),
    details,
    pushbackMs: pushback(failure, row, repeatable),
  }
}

function durationOf(ms: number): MessageShape<typeof DurationSchema> {
  return durationFromMs(ms)
}

/** `grpc-status-details-bin`: the failure as a serialized google.rpc.Status. */
export function statusDetailsBin(status: RpcStatus): Uint8Array {
  const details = status.details.map(({ desc, value }) => anyPack(desc, value))
  return toBinary(StatusSchema, create(StatusSchema, { code: status.code, message: status.message, details }))
}

/** What a thrown value means to the caller; an unknown one is logged here and answered with nothing but INTERNAL. */
export function toStatus(
  thrown: unknown,
  log: Logger,
  context: { readonly method: string; readonly traceId?: string | undefined },
  repeatable = false,
): RpcStatus {
  if (thrown instanceof DomainError) {
    if (thrown.reason === "INTERNAL") log.error({ ...context, err: thrown }, "call failed on a defect")
    return statusOf(thrown, repeatable)
  }
  log.error({ ...context, err: thrown }, "call failed on an unexpected error")
  return INTERNAL
}

const INTERNAL: RpcStatus = statusOf(new DomainError("INTERNAL", "internal error"))
