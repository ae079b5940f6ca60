import type { Call } from "../call.ts"
import type { MethodInfo } from "../compile.ts"
import type { RpcStatus } from "../status.ts"

/** What one interceptor does for one method. Every part is optional; a part that is absent costs a call nothing. */
export interface Step {
  /** Before the handler, in the chain's order. Throws to refuse; a promise only where there is something to wait for. */
  enter?(call: Call): void | Promise<void>
  /** Once, when the call turns out to have to wait. Calls that are answered synchronously never get here. */
  wait?(call: Call): void
  /** Turns whatever a later step or the handler threw into the status to send. */
  fail?(call: Call, thrown: unknown): RpcStatus
  /** After the status is handed to the transport, in reverse order; only where `enter` was passed. Must not throw. */
  leave?(call: Call): void
}

/** An interceptor: a name and what it does for each method, decided once at start-up. */
export interface Interceptor {
  readonly name: string
  /** Undefined where the method needs nothing of it. */
  compile(method: MethodInfo): Step | undefined
}
