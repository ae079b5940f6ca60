/** Refuses calls to a store that is not usable yet. */
import { DomainError } from "../../domain/kernel/errors.ts"
import type { Decorate, PortMethod } from "./wrap.ts"

/** When a caller should look again, in milliseconds. */
const RETRY_MS = 1_000

/** Lets calls through while `isOpen` answers true; refuses them with STORE_UNAVAILABLE otherwise, before anything is sent. */
export function gate(store: string, isOpen: () => boolean): Decorate {
  const refusal = () =>
    new DomainError("STORE_UNAVAILABLE", `the store ${store} has not answered yet; try again`, {
      metadata: { store },
      retryDelayMs: RETRY_MS,
    })
  return (_name, kind, method) =>
    kind === "stream" ? gateStream(isOpen, refusal, method) : gateCall(isOpen, refusal, method)
}

function gateCall(isOpen: () => boolean, refusal: () => DomainError, method: PortMethod): PortMethod {
  return (scope, a?: unknown, b?: unknown, c?: unknown, d?: unknown, e?: unknown) =>
    isOpen() ? method(scope, a, b, c, d, e) : Promise.reject(refusal())
}

function gateStream(isOpen: () => boolean, refusal: () => DomainError, method: PortMethod): PortMethod {
  return (scope, ...rest) =>
    (async function* gated() {
      if (!isOpen()) throw refusal()
      yield* method(scope, ...rest) as AsyncIterable<unknown>
    })()
}
