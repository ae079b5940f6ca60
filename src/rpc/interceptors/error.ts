import { DomainError } from "../../domain/kernel/errors.ts"
import type { Logger } from "../../domain/kernel/logger.ts"
import { toStatus } from "../status.ts"
import type { Interceptor } from "./step.ts"

/** Turns failures into statuses. A store's own AbortError after an abort means what the abort meant. */
export function error(logger: Logger): Interceptor {
  return {
    name: "error",
    compile(method) {
      return {
        fail(call, thrown) {
          const meant =
            thrown instanceof DomainError ? thrown : (abortCause(thrown, call.abortReason) ?? thrown)
          const context = { method: method.name, traceId: call.observed?.traceId }
          return toStatus(meant, logger, context, call.idempotency !== undefined)
        },
      }
    },
  }
}

function abortCause(thrown: unknown, reason: DomainError | undefined): DomainError | undefined {
  return thrown instanceof Error && thrown.name === "AbortError" ? reason : undefined
}
