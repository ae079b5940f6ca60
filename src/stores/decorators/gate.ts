/** Refuses calls to a store that is not usable yet. */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { Decorate, PortMethod } from "./wrap.ts"

/** When a caller should look again, in milliseconds. */
const RETRY_MS = 1_000

/** Lets calls through while `isOpen` answers true; refuses them with STORE_UNAVAILABLE otherwise, before anything is sent. */
export function gate(store: string, isOpen: () => boolean): Decorate {
  const admit = () => {
    if (isOpen()) return
    throw new DomainError("STORE_UNAVAILABLE", `the store ${store} has not answered yet; try again`, {
      metadata: { store },
      retryDelayMs: RETRY_MS,
    })
  }
  return (_name, kind, method) => (kind === "stream" ? gateStream(admit, method) : gateCall(admit, method))
}

function gateCall(admit: () => void, method: PortMethod): PortMethod {
  return async (scope, ...rest) => {
    admit()
    return method(scope, ...rest)
  }
}

function gateStream(admit: () => void, method: PortMethod): PortMethod {
  return (scope, ...rest) =>
    (async function* gated() {
      admit()
      yield* method(scope, ...rest) as AsyncIterable<unknown>
    })()
}
