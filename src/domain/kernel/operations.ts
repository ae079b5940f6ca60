/** What the methods of a port do, declared as data beside each port, so that whatever wraps a port need not guess. */

/**
 * `read` has no effect, `write` may have one, `repeatable` is a write whose repetition has no further effect and needs no
 * request_id, `stream` answers an async iterable, `plain` is no call to the store and is passed on as it is.
 */
export type OperationKind = "read" | "write" | "repeatable" | "stream" | "plain"

/** The names of the methods of a port. */
export type MethodsOf<P> = {
  [K in keyof P]-?: P[K] extends (...args: never[]) => unknown ? K : never
}[keyof P]

/** Every method of the port with its kind; the compiler finds a method that is missing. */
export type Operations<P> = { readonly [K in MethodsOf<P> & string]: OperationKind }
