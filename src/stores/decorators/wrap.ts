/** Wraps ports method by method, once at start-up: no Proxy, so that a call costs what its wrapper does and nothing more. */
import type { OperationKind } from "../../domain/kernel/operations.ts"
import type { CallScope } from "../../domain/kernel/scope.ts"

/** A method of a port as a decorator sees it. */
export type PortMethod = (scope: CallScope, ...rest: readonly unknown[]) => unknown

/** What a method is to a decorator. A repeatable write is a write, and most need not know more. */
export type DecoratedKind = "read" | "write" | "stream"

/** Gives a method something around it. Answering the method itself leaves it alone. */
export type Decorate = (
  name: string,
  kind: DecoratedKind,
  method: PortMethod,
  repeatable: boolean,
) => PortMethod

/** An object with the members of `port`, its operations decorated; `plain` and undeclared ones are passed on. */
export function wrapPort<P extends object>(
  port: P,
  operations: Readonly<Record<string, OperationKind>>,
  decorate: Decorate,
): P {
  const wrapped: Record<string, unknown> = {}
  for (const name of memberNames(port)) {
    const value: unknown = Reflect.get(port, name, port)
    if (typeof value !== "function") {
      // Read when asked for, since a class may compute it.
      Object.defineProperty(wrapped, name, { get: () => Reflect.get(port, name, port), enumerable: true })
      continue
    }
    const kind = operations[name] ?? "plain"
    const bound = value.bind(port) as PortMethod
    if (kind === "plain") wrapped[name] = bound
    else if (kind === "repeatable") wrapped[name] = decorate(name, "write", bound, true)
    else wrapped[name] = decorate(name, kind, bound, kind === "read")
  }
  return wrapped as P
}

function memberNames(port: object): ReadonlySet<string> {
  const names = new Set<string>()
  let level: object | null = port
  while (level !== null && level !== Object.prototype) {
    for (const name of Object.getOwnPropertyNames(level)) if (name !== "constructor") names.add(name)
    level = Object.getPrototypeOf(level) as object | null
  }
  return names
}
