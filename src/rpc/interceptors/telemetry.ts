import type { CallObserver } from "../telemetry-seam.ts"
import type { Interceptor } from "./step.ts"

/** Tells the observer when a call begins and how it ends. */
export function telemetry(observer: CallObserver | undefined): Interceptor {
  return {
    name: "telemetry",
    compile(method) {
      if (observer === undefined) return undefined
      return {
        enter(call) {
          call.observed = observer.onStart(method.name, (name) => call.header(name), method.kind !== "unary")
        },
        leave(call) {
          call.observed?.end(call.status?.code ?? 0, call.status?.reason)
        },
      }
    },
  }
}
