import type { Logger } from "../../domain/kernel/logger.ts"
import type { ActiveCalls } from "../active-calls.ts"
import type { Authenticator } from "../auth/authenticator.ts"
import type { RpcLimits } from "../limits.ts"
import type { MemoryPressure } from "../memory-pressure.ts"
import type { TenantGate } from "../server-options.ts"
import type { CallObserver } from "../telemetry-seam.ts"
import { authentication } from "./authentication.ts"
import { deadline } from "./deadline.ts"
import { error } from "./error.ts"
import { idempotency } from "./idempotency.ts"
import { type InFlight, limits } from "./limits.ts"
import type { Interceptor } from "./step.ts"
import { telemetry } from "./telemetry.ts"
import { tenant } from "./tenant.ts"
import { validation } from "./validation.ts"

/** What the interceptors need from outside. */
export interface ChainParts {
  readonly observer: CallObserver | undefined
  readonly logger: Logger
  readonly authenticator: Authenticator | undefined
  readonly tenants: TenantGate | undefined
  readonly limits: RpcLimits
  readonly inFlight: InFlight
  readonly memory: MemoryPressure
  readonly active: ActiveCalls
}

/** The order of the interceptors, outermost first, each with the reason for its place. */
export const CHAIN: readonly { readonly why: string; readonly make: (parts: ChainParts) => Interceptor }[] = [
  {
    why: "sees every call and its final status, also of refused ones",
    make: ({ observer }) => telemetry(observer),
  },
  { why: "turns whatever is thrown further in into a status", make: ({ logger }) => error(logger) },
  {
    why: "a call that is late already must not take a place in flight, nor wait for a store that is asked who calls",
    make: ({ limits: maximum, active }) => deadline(maximum, active),
  },
  {
    why: "nothing is done for a caller who is not known",
    make: ({ authenticator }) => authentication(authenticator),
  },
  {
    why: "needs the principal; everything after it counts and acts per tenant",
    make: ({ tenants }) => tenant(tenants),
  },
  {
    why: "sheds before the message costs a decode",
    make: (parts) => limits(parts.limits, parts.inFlight, parts.memory),
  },
  { why: "decodes, so it comes after everything that can refuse without reading", make: () => validation() },
  { why: "hashes the message, so it needs one that is valid", make: () => idempotency() },
]
