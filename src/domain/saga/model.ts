/** Flows over several stores, kept step by step so that any daemon can finish or take back what another one began. */
import type { JsonObject } from "../kernel/json.ts"
import type { TenantId } from "../kernel/scope.ts"

/**
 * `running`: steps are being done. `done`: all are. `compensating`: a step was refused, and those before it are being taken back.
 * `compensated`: nothing is left of it. `stuck`: it failed too often and waits for an operator.
 */
export type SagaState = "running" | "done" | "compensating" | "compensated" | "stuck"

/** Where a step is. */
export type StepState = "pending" | "done" | "compensating" | "compensated"

/** A step as it is kept. */
export interface SagaStep {
  readonly name: string
  readonly state: StepState
  /** Runs of it so far, in both directions. */
  readonly attempts: number
  /** What it answered; empty before it is done. */
  readonly result: JsonObject
}

/** Why a step did not succeed; nothing of a driver. */
export interface SagaFault {
  /** A reason of {@link DomainError}. */
  readonly reason: string
  readonly message: string
  readonly metadata: Readonly<Record<string, string>>
  /** The step that said it. */
  readonly step: string
}

/** A saga to be begun. */
export interface NewSaga {
  readonly id: string
  /** Which definition it follows, e.g. `create-agent`. */
  readonly kind: string
  /** Whose it is. */
  readonly tenant: TenantId
  /** Who asked for it. */
  readonly actor: string
  /** What it is about; at most one saga that is not over has the same kind, tenant and subject. */
  readonly subject: string
  /** What its steps need. Definitions of later versions must still read it. */
  readonly input: JsonObject
  readonly steps: readonly SagaStep[]
}

/** A saga as it is kept. Times are milliseconds since the epoch. */
export interface Saga extends NewSaga {
  readonly state: SagaState
  /** The failure that turned it round or that it is stuck with; the last one while it is tried again. */
  readonly fault: SagaFault | undefined
  /** Failures in a row. */
  readonly failures: number
  /** When it is tried next. */
  readonly nextMs: number
  readonly createdMs: number
  readonly updatedMs: number
}

/** Whether nothing happens to it any more. */
export function isOver({ state }: Pick<Saga, "state">): boolean {
  return state === "done" || state === "compensated"
}
