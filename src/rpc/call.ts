import type { DomainError } from "../domain/kernel/errors.ts"
import { DEFAULT_TENANT, type Idempotency, type TenantId } from "../domain/kernel/scope.ts"
import type { TraceContext } from "../domain/kernel/trace.ts"
import type { CompiledMethod } from "./compile.ts"
import type { CallContext, Principal } from "./handler.ts"
import type { Link } from "./linked.ts"
import type { RpcStatus } from "./status.ts"
import type { ObservedCall } from "./telemetry-seam.ts"

/** Who calls when authentication is off: everything is allowed, for every tenant. */
export const LOCAL_PRINCIPAL: Principal = { id: "local", platform: true, permissions: new Set(["*"]) }

/**
 * One call, from its first header to its status. A transport subclasses it with the few things only it knows; interceptors
 * fill in the rest; handlers see it as their {@link CallContext}.
 */
export abstract class Call implements CallContext, Link<Call> {
  readonly compiled: CompiledMethod
  tenant: TenantId = DEFAULT_TENANT
  principal: Principal = LOCAL_PRINCIPAL
  deadlineMs: number
  /** When it came, in milliseconds of Unix time. */
  readonly arrivedMs: number
  idempotency: Idempotency | undefined = undefined
  observed: ObservedCall | undefined = undefined
  /** The decoded request of a method that takes one message. */
  request: object | undefined = undefined
  /** How many interceptors have let the call in; they are left in reverse order. */
  entered = 0
  /** Set once: an answer or a failure has been handed to the transport. */
  settled = false
  /** The failure the call ended with. */
  status: RpcStatus | undefined = undefined
  /** Used by interceptors to find their own per-call state. */
  limitedTenant: { calls: number; streams: number } | undefined = undefined
  /** Fires before the deadline; armed only where the call has to wait. */
  deadlineTimer: NodeJS.Timeout | undefined = undefined
  /** The call could not be answered synchronously. */
  waiting = false
  /** Runs once after the end; set for streams. */
  onSettled: (() => void) | undefined = undefined
  /** What ends the call early: cancel, deadline or drain. Set by the runner once a call has to wait. */
  onAbort: ((reason: DomainError) => void) | undefined = undefined
  /** Its neighbours among the calls that wait. */
  newer: Call | undefined = undefined
  older: Call | undefined = undefined
  #controller: AbortController | undefined = undefined
  #aborted: DomainError | undefined = undefined

  /** `deadlineMs` is the client's, or Infinity. */
  constructor(compiled: CompiledMethod, deadlineMs: number, arrivedMs = Date.now()) {
    this.compiled = compiled
    this.deadlineMs = deadlineMs
    this.arrivedMs = arrivedMs
  }

  /** The raw request of a method that takes one message: bytes, or a message that the transport has decoded. */
  abstract readonly raw: unknown
  /** The raw requests of a method that takes a stream. */
  abstract readonly incoming: AsyncIterable<unknown> | undefined
  /** The caller's address, `unix` for a socket file. */
  abstract readonly peer: string
  /** Asks the transport to call {@link abort} when the peer goes away. Only calls that wait ask for it. */
  abstract watchCancel(): void
  abstract header(name: string): string | undefined
  abstract setTrailer(name: string, value: string): void
  /** Sends one message of a streaming answer; a promise while the peer does not take more. */
  abstract write(message: object): void | Promise<void>
  /** Ends the call. `response` is set for a unary answer that succeeded. */
  abstract finish(status: RpcStatus | undefined, response: object | undefined): void

  get method(): string {
    return this.compiled.name
  }

  get actor(): string {
    return this.principal.id
  }

  get trace(): TraceContext | undefined {
    return this.observed?.trace
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController()
      if (this.#aborted !== undefined) this.#controller.abort(this.#aborted)
    }
    return this.#controller.signal
  }

  /** Why the call was ended early; undefined while it was not. */
  get abortReason(): DomainError | undefined {
    return this.#aborted
  }

  /** Ends the call early; the first reason stays. */
  abort(reason: DomainError): void {
    if (this.#aborted !== undefined) return
    this.#aborted = reason
    this.#controller?.abort(reason)
    this.onAbort?.(reason)
  }
}
