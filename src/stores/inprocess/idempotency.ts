/**
 * First answers of mutations with a request_id. They live in the memory that holds their effects, so both are lost together.
 * Bounded per tenant by time, count and bytes: a tenant that goes over loses its own oldest records.
 */
import type { Clock } from "../../domain/kernel/clock.ts"
import { DomainError } from "../../domain/kernel/errors.ts"
import type { CallScope, Idempotency, TenantId } from "../../domain/kernel/scope.ts"

/** Bounds of the records. */
export interface IdempotencyLimits {
  readonly maxRecordsPerTenant: number
  readonly maxBytesPerTenant: number
}

/** What holds unless bootstrap says otherwise. */
export const IDEMPOTENCY_LIMITS: IdempotencyLimits = {
  maxRecordsPerTenant: 100_000,
  maxBytesPerTenant: 32 * 1_048_576,
}

const KEPT_MS = 24 * 3_600_000
const RECORD_OVERHEAD_BYTES = 256

interface Answer {
  readonly bodyHash: string
  readonly result: unknown
  readonly untilMs: number
  readonly bytes: number
}

interface Answers {
  readonly byRequest: Map<string, Answer>
  bytes: number
}

/** See the file's comment. */
export class IdempotencyRecords {
  readonly #clock: Clock
  readonly #limits: IdempotencyLimits
  readonly #tenants = new Map<TenantId, Answers>()

  constructor(clock: Clock, limits: IdempotencyLimits = IDEMPOTENCY_LIMITS) {
    this.#clock = clock
    this.#limits = limits
  }

  /** Drops all records of a tenant. */
  forget(tenant: TenantId): void {
    this.#tenants.delete(tenant)
  }

  /**
   * Runs `work` once per request_id and remembers its result, which must not change afterwards. A failure is not remembered.
   * Raises REQUEST_ID_REUSED for a known request_id with another body.
   */
  once<T>(scope: CallScope, operation: string, work: () => T): T {
    const { idempotency } = scope
    if (idempotency === undefined) return work()
    const request = `${idempotency.method}\0${operation}\0${idempotency.requestId}`
    const known = this.#answers(scope.tenant).byRequest.get(request)
    if (known !== undefined && known.untilMs > this.#clock.now()) return replay<T>(known, idempotency)
    const result = work()
    this.#remember(this.#answers(scope.tenant), request, idempotency, result)
    return result
  }

  /** Forgets everything. */
  clear(): void {
    this.#tenants.clear()
  }

  #answers(tenant: TenantId): Answers {
    let answers = this.#tenants.get(tenant)
    if (answers === undefined) {
      answers = { byRequest: new Map(), bytes: 0 }
      this.#tenants.set(tenant, answers)
    }
    return answers
  }

  #remember(answers: Answers, request: string, idempotency: Idempotency, result: unknown): void {
    const nowMs = this.#clock.now()
    const bytes = RECORD_OVERHEAD_BYTES + request.length + weigh(result)
    this.#forget(answers, request)
    answers.byRequest.set(request, {
      bodyHash: hex(idempotency.bodyHash),
      result,
      untilMs: nowMs + KEPT_MS,
      bytes,
    })
    answers.bytes += bytes
    const { maxRecordsPerTenant, maxBytesPerTenant } = this.#limits
    for (const [oldest, { untilMs }] of answers.byRequest) {
      const tooMany = answers.byRequest.size > maxRecordsPerTenant || answers.bytes > maxBytesPerTenant
      if (untilMs > nowMs && !tooMany) break
      this.#forget(answers, oldest)
    }
  }

  #forget(answers: Answers, request: string): void {
    const answer = answers.byRequest.get(request)
    if (answer === undefined) return
    answers.byRequest.delete(request)
    answers.bytes -= answer.bytes
  }
}

function replay<T>(known: Answer, idempotency: Idempotency): T {
  if (known.bodyHash === hex(idempotency.bodyHash)) return known.result as T
  throw new DomainError("REQUEST_ID_REUSED", "the request_id was used with another body; choose a new one", {
    metadata: { request_id: idempotency.requestId },
  })
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex")
}

/** About how much memory a result keeps. */
function weigh(result: unknown): number {
  if (typeof result === "string") return result.length
  if (result instanceof Uint8Array) return result.byteLength
  if (typeof result !== "object" || result === null) return 8
  let bytes = 16
  for (const part of Array.isArray(result) ? result : Object.values(result)) bytes += weigh(part)
  return bytes
}
